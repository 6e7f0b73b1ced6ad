//! The door over real sockets, with everybody let in who says `open`, and orders in a list.

use std::net::SocketAddr;

use media::TrackId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::config::units::Span;
use crate::ingest::Order;
use crate::protocol::rtsp::wire::{self, Item};
use crate::protocol::sdp::tests::FFMPEG as SDP;

const CAPTURE: &[u8] = include_bytes!("../../../tests/data/rtsp/ffmpeg-h264-aac.interleaved");
const PICTURES: usize = 25;

fn with(limits: Limits) -> Settings {
    Settings { limits, ..Settings::default() }
}

struct Server {
    address: SocketAddr,
    orders: UnboundedReceiver<Order>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn server(settings: Settings) -> Server {
    server_with(settings, None).await
}

async fn server_with(settings: Settings, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
    let (sender, orders) = unbounded_channel();
    let door = Rtsp::with_gate(Gate::Memory(sender), Arc::new(store::SystemClock), settings, Crowd::new(u32::MAX));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(door.serve(listener, tls, shutdown.clone()));
    Server { address, orders, shutdown, task }
}

impl Server {
    async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("connects");
        Client { stream, number: 0, buffer: Vec::new() }
    }

    /// Stops, and counts units of the video track in all orders.
    async fn pictures(mut self) -> usize {
        self.shutdown.cancel();
        self.task.await.expect("no panic");
        let is_picture = |order: &Order| matches!(order, Order::Unit(unit) if unit.track == TrackId(1));
        let mut count = 0;
        while let Some(order) = self.orders.recv().await {
            count += usize::from(is_picture(&order));
        }
        count
    }
}

struct Client {
    stream: TcpStream,
    number: u32,
    buffer: Vec<u8>,
}

impl Client {
    /// Sends a request and reads its answer.
    async fn ask(&mut self, method: &str, uri: &str, headers: &str, body: &str) -> String {
        self.number += 1;
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\n{headers}{length}\r\n{body}", self.number);
        self.stream.write_all(text.as_bytes()).await.expect("sent");
        let answer = self.answer().await;
        assert!(answer.contains(&format!("CSeq: {}\r\n", self.number)), "{answer}");
        answer
    }

    async fn answer(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.buffer.drain(..end + 4).collect()).expect("text");
            }
            let read = self.stream.read_buf(&mut self.buffer).await.expect("reads");
            assert!(read > 0, "closed: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Everything until the server closes.
    async fn rest(&mut self) -> String {
        // A reset is a close too: the server may close on bytes that it has not read.
        let _ = self.stream.read_to_end(&mut self.buffer).await;
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// ANNOUNCE and SETUP of both tracks by these transports; the session's header and the answers of SETUP.
    async fn set_up(&mut self, uri: &str, transports: [&str; 2]) -> (String, Vec<String>) {
        let headers = "Authorization: open\r\nContent-Type: application/sdp\r\n";
        let answer = self.ask("ANNOUNCE", uri, headers, SDP).await;
        assert!(answer.starts_with("RTSP/1.0 200 OK\r\n"), "{answer}");
        let session = answer.lines().find(|line| line.starts_with("Session: ")).expect("a session");
        let session = format!("{}\r\n", session.split(';').next().expect("an id"));
        let mut answers = Vec::new();
        for (track, transport) in transports.iter().enumerate() {
            let headers = format!("{session}Transport: {transport}\r\n");
            let answer = self.ask("SETUP", &format!("{uri}/streamid={track}"), &headers, "").await;
            assert!(answer.starts_with("RTSP/1.0 200 OK\r\n"), "{answer}");
            answers.push(answer);
        }
        (session, answers)
    }
}

const TCP: [&str; 2] =
    ["RTP/AVP/TCP;unicast;interleaved=0-1;mode=record", "RTP/AVP/TCP;unicast;interleaved=2-3;mode=record"];

#[tokio::test]
async fn a_push_over_tcp_gives_every_picture() {
    let server = server(Settings::default()).await;
    let mut client = server.client().await;
    let uri = format!("rtsp://{}/gate", server.address);
    assert!(client.ask("OPTIONS", &uri, "", "").await.contains("Public: OPTIONS, ANNOUNCE"));
    let refused = client.ask("ANNOUNCE", &uri, "Content-Type: application/sdp\r\n", SDP).await;
    assert!(refused.starts_with("RTSP/1.0 401 ") && refused.contains("Digest one\r\nWWW-Authenticate: Digest two"));
    let (session, _) = client.set_up(&uri, TCP).await;
    assert!(client.ask("RECORD", &uri, &session, "").await.starts_with("RTSP/1.0 200 OK"));
    client.stream.write_all(CAPTURE).await.expect("sent");
    assert!(client.ask("TEARDOWN", &uri, &session, "").await.starts_with("RTSP/1.0 200 OK"));
    assert_eq!(client.rest().await, "");
    assert_eq!(server.pictures().await, PICTURES);
}

#[tokio::test]
async fn a_close_without_teardown_is_an_end() {
    let server = server(Settings::default()).await;
    let mut client = server.client().await;
    let uri = format!("rtsp://{}/gate", server.address);
    let (session, _) = client.set_up(&uri, TCP).await;
    client.ask("RECORD", &uri, &session, "").await;
    client.stream.write_all(CAPTURE).await.expect("sent");
    client.stream.shutdown().await.expect("closed");
    assert_eq!(client.rest().await, "");
    assert_eq!(server.pictures().await, PICTURES);
}

#[tokio::test]
async fn a_push_over_udp_gives_every_picture_and_hears_nobody_else() {
    let server = server(Settings::default()).await;
    let mut client = server.client().await;
    let uri = format!("rtsp://{}/gate", server.address);
    let camera = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let stranger = UdpSocket::bind("127.0.0.2:0").await.expect("a port");
    let neighbour = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let port = camera.local_addr().expect("bound").port();
    let transport = format!("RTP/AVP;unicast;client_port={port}-{};mode=record", port ^ 1);
    let (session, answers) = client.set_up(&uri, [&transport, &transport]).await;
    client.ask("RECORD", &uri, &session, "").await;
    let ports: Vec<u16> = answers
        .iter()
        .map(|answer| {
            let (_, after) = answer.split_once("server_port=").expect("ports");
            after.split('-').next().expect("the first").parse().expect("a number")
        })
        .collect();
    let (mut rest, mut packets) = (CAPTURE, Vec::new());
    while let Ok(Some((Item::Data { channel, payload }, taken))) = wire::next(rest) {
        packets.push((ports[usize::from(channel / 2)] + u16::from(channel % 2), payload));
        rest = &rest[taken..];
    }
    let last = packets.len() - 10;
    for (at, (port, payload)) in packets.into_iter().enumerate() {
        let to = SocketAddr::new(server.address.ip(), port);
        if at == last {
            // The control connection may be faster than datagrams that left before.
            let teardown = format!("TEARDOWN {uri} RTSP/1.0\r\nCSeq: 99\r\n{session}\r\n");
            client.stream.write_all(teardown.as_bytes()).await.expect("sent");
        }
        stranger.send_to(&[0x80, 96, 0, 0], to).await.expect("sent");
        neighbour.send_to(&[], to).await.expect("sent");
        camera.send_to(payload, to).await.expect("sent");
    }
    assert!(client.rest().await.contains("CSeq: 99\r\n"));
    assert_eq!(server.pictures().await, PICTURES);
}

#[tokio::test]
async fn a_refused_publisher_is_told_before_it_sends() {
    let server = server(Settings::default()).await;
    let mut client = server.client().await;
    let uri = format!("rtsp://{}/busy", server.address);
    let (session, _) = client.set_up(&uri, TCP).await;
    let answer = client.ask("RECORD", &uri, &session, "").await;
    assert!(answer.starts_with("RTSP/1.0 409 busy for rtsp+tcp\r\n"), "{answer}");
}

#[tokio::test]
async fn a_session_of_another_connection_is_not_found() {
    let server = server(Settings::default()).await;
    let (mut owner, mut thief) = (server.client().await, server.client().await);
    let uri = format!("rtsp://{}/gate", server.address);
    let (session, _) = owner.set_up(&uri, TCP).await;
    owner.ask("RECORD", &uri, &session, "").await;
    thief.set_up(&uri, TCP).await;
    for method in ["TEARDOWN", "SET_PARAMETER", "GET_PARAMETER", "RECORD"] {
        assert!(thief.ask(method, &uri, &session, "").await.starts_with("RTSP/1.0 454 "), "{method}");
    }
    assert!(owner.ask("GET_PARAMETER", &uri, &session, "").await.starts_with("RTSP/1.0 200 "));
}

#[tokio::test]
async fn hostile_connections_get_an_answer_and_a_close() {
    let server = server(Settings::default()).await;
    let check = async |bytes: &[u8], status: &str| {
        let mut client = server.client().await;
        let _ = client.stream.write_all(bytes).await;
        let answer = client.rest().await;
        assert!(answer.lines().any(|line| line.starts_with(status)), "{status}: {answer:.300}");
    };
    check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "RTSP/1.0 400 ").await;
    check(b"OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 505 ").await;
    check(b"OPTIONS * RTSP/2.0\r\nCSeq: 41\r\n\r\n", "CSeq: 41").await;
    check(b"ANNOUNCE rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 10485760\r\n\r\n", "RTSP/1.0 413 ").await;
    check(&b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".repeat(140), "RTSP/1.0 503 ").await;
    let mut client = server.client().await;
    assert!(client.ask("OPTIONS", "*", "", "").await.starts_with("RTSP/1.0 200 "), "others are served");
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_closed() {
    let settings = with(Limits { unauthenticated_lifetime: Span::millis(100), ..Limits::default() });
    let server = server(settings).await;
    let mut client = server.client().await;
    client.stream.write_all(b"OPTIONS * RT").await.expect("sent");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn strangers_of_one_address_are_limited() {
    let settings = with(Limits { unauthenticated_per_ip: 2, ..Limits::default() });
    let server = server(settings).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.ask("OPTIONS", "*", "", "").await;
    second.ask("OPTIONS", "*", "", "").await;
    // The oldest makes room for the newest.
    let mut third = server.client().await;
    assert!(third.ask("OPTIONS", "*", "", "").await.starts_with("RTSP/1.0 200 "));
    assert_eq!(first.rest().await, "");
    assert!(second.ask("OPTIONS", "*", "", "").await.starts_with("RTSP/1.0 200 "));
    // From another address there is room.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.3:0".parse().expect("an address")).expect("bound");
    let stream = socket.connect(server.address).await.expect("connects");
    let mut other = Client { stream, number: 0, buffer: Vec::new() };
    assert!(other.ask("OPTIONS", "*", "", "").await.starts_with("RTSP/1.0 200 "));
}

#[tokio::test]
async fn rtsps_serves_and_keeps_packets_inside() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a pair");
    let server = server_with(Settings::default(), Some(Arc::new(config))).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.expect("connects");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut stream =
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    let uri = "rtsps://localhost/gate";
    let set_up = |number: u32, transport: &str| {
        format!("SETUP {uri}/streamid=0 RTSP/1.0\r\nCSeq: {number}\r\nTransport: {transport}\r\n\r\n")
    };
    let text = format!(
        "ANNOUNCE {uri} RTSP/1.0\r\nCSeq: 1\r\nAuthorization: open\r\nContent-Length: {}\r\n\r\n{SDP}{}{}",
        SDP.len(),
        set_up(2, "RTP/AVP;unicast;client_port=6000-6001;mode=record"),
        set_up(3, TCP[0]),
    );
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answers = Vec::new();
    while !String::from_utf8_lossy(&answers).contains("CSeq: 3\r\n") {
        assert!(stream.read_buf(&mut answers).await.expect("reads") > 0);
    }
    let answers = String::from_utf8(answers).expect("text");
    let statuses: Vec<_> = answers.lines().filter_map(|line| line.strip_prefix("RTSP/1.0 ")?.get(..3)).collect();
    assert_eq!(statuses, ["200", "461", "200"], "{answers}");
}

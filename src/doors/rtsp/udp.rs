//! Datagram ports of a session's track, and who is heard there.
//!
//! Only the control connection's peer is heard. It announces its own ports, and what comes from those is believed before
//! anything else. A peer behind a NAT comes from other ports: the first of them that sends what the session announced is
//! latched, until the announced port speaks, or until it has been silent while another one speaks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use crate::protocol::rtp::{packet, rtcp};

/// Datagrams of strangers that are dropped in one go.
const FOREIGN_AT_ONCE: usize = 16;

/// Largest datagram that there is: none is cut.
pub(super) const MAX_DATAGRAM: usize = 65_535;
/// What the kernel may hold for us while the task is busy: about a second of 16 Mbit/s. The system may give less.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Tries until a free even port with a free odd one above it is found.
const TRIES: usize = 64;

/// A source that was silent for so long gives way to another port of the same peer: a NAT may have moved it.
const SILENT: Duration = Duration::from_secs(5);

/// Two sockets on neighbouring ports: RTP on the even one (RFC 3550 section 11).
pub(super) struct Pair {
    sockets: [UdpSocket; 2],
    announced: Announced,
    /// Where RTP and RTCP come from; before that, RTCP goes to the announced port.
    sources: [Option<Source>; 2],
    /// Datagrams of others.
    pub foreign: u64,
}

/// What a client said of a track before it sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// The control connection's peer: nobody else is heard.
    pub peer: IpAddr,
    /// The ports that it sends RTP and RTCP from.
    pub ports: [u16; 2],
    /// Of its RTP packets.
    pub payload_type: u8,
}

/// Where datagrams are taken from.
#[derive(Clone, Copy, Debug)]
struct Source {
    from: SocketAddr,
    heard: Instant,
}

/// Which of the two.
pub(super) const RTP: usize = 0;
/// See [`RTP`].
pub(super) const RTCP: usize = 1;

impl Announced {
    /// Whether the datagram is what the session's peer would send.
    fn is_plausible(&self, which: usize, datagram: &[u8]) -> bool {
        match which {
            RTP => packet::parse(datagram)
                .is_ok_and(|packet| packet.payload_type == self.payload_type && !packet.payload.is_empty()),
            _ => rtcp::is_rtcp(datagram),
        }
    }
}

impl Pair {
    /// Binds two ports at `local`, of `range` if given, to hear whom `announced` says.
    pub(super) fn bind(local: IpAddr, range: Option<&RangeInclusive<u16>>, announced: Announced) -> io::Result<Pair> {
        let mut error = io::Error::new(io::ErrorKind::AddrInUse, "no free pair of ports");
        for port in candidates(range) {
            match bind_two(local, port) {
                Ok(Some(sockets)) => return Ok(Pair { sockets, announced, sources: [None; 2], foreign: 0 }),
                Ok(None) => {}
                Err(source) => error = source,
            }
        }
        Err(error)
    }

    /// Our ports.
    pub(super) fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.sockets[RTP].local_addr()?.port(), self.sockets[RTCP].local_addr()?.port()))
    }

    /// Ready when either socket has something.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        // Both are asked, so that both wake the task.
        let ready = self.sockets.each_ref().map(|socket| socket.poll_recv_ready(context).is_ready());
        if ready.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The next datagram from our peer, at `now`; none when there is none now, or strangers' stand before it: those are
    /// counted and dropped some at a time, so that a flood of them holds up nobody.
    pub(super) fn receive<'a>(&mut self, which: usize, buffer: &'a mut [u8], now: Instant) -> Option<&'a [u8]> {
        for _ in 0..FOREIGN_AT_ONCE {
            // An error is a bounced report of ours, or nothing to read.
            let (length, from) = self.sockets[which].try_recv_from(buffer).ok()?;
            if self.is_heard(which, from, &buffer[..length], now) {
                self.sources[which] = Some(Source { from, heard: now });
                return Some(&buffer[..length]);
            }
            self.foreign += 1;
        }
        None
    }

    /// Whether the datagram is taken, and `from` is the source from now on.
    fn is_heard(&self, which: usize, from: SocketAddr, datagram: &[u8], now: Instant) -> bool {
        if from.ip().to_canonical() != self.announced.peer.to_canonical() {
            return false;
        }
        let gives_way = match self.sources[which] {
            Some(source) if source.from == from => return true,
            Some(source) => now.saturating_duration_since(source.heard) >= SILENT,
            None => true,
        };
        (gives_way || from.port() == self.announced.ports[which]) && self.announced.is_plausible(which, datagram)
    }

    /// Sends a report; one that is lost is followed by another.
    pub(super) fn report(&self, bytes: &[u8]) {
        let announced = SocketAddr::new(self.announced.peer, self.announced.ports[RTCP]);
        let to = self.sources[RTCP].map_or(announced, |source| source.from);
        let _ = self.sockets[RTCP].try_send_to(bytes, to);
    }
}

/// Resolves when any socket of the pairs has something.
pub(super) async fn ready(pairs: &[Pair]) {
    std::future::poll_fn(|context| {
        // All are asked, so that all wake the task.
        let ready = pairs.iter().filter(|pair| pair.poll_ready(context).is_ready()).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Ports to try for RTP: 0 lets the system choose.
fn candidates(range: Option<&RangeInclusive<u16>>) -> Vec<u16> {
    let Some(range) = range else { return vec![0; TRIES] };
    let even: Vec<u16> = range.clone().filter(|port| port % 2 == 0 && *port < *range.end()).collect();
    // Start anywhere: sessions that come together should not all try the same ports.
    let mut start = [0u8; 4];
    let _ = getrandom::fill(&mut start);
    let start = u32::from_le_bytes(start) as usize % even.len().max(1);
    even.iter().cycle().skip(start).take(even.len()).copied().collect()
}

/// None when the port is odd or its neighbour taken.
fn bind_two(local: IpAddr, port: u16) -> io::Result<Option<[UdpSocket; 2]>> {
    let rtp = bind(SocketAddr::new(local, port))?;
    let port = rtp.local_addr()?.port();
    if port % 2 != 0 {
        return Ok(None);
    }
    match bind(SocketAddr::new(local, port + 1)) {
        Ok(rtcp) => Ok(Some([rtp, rtcp])),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
    UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn candidates_are_even_with_room_for_the_next() {
        let mut ports = candidates(Some(&(5_001..=5_006)));
        ports.sort_unstable();
        assert_eq!(ports, [5_002, 5_004]);
        assert!(candidates(Some(&(5_001..=5_002))).is_empty());
    }

    fn port() -> std::net::UdpSocket {
        std::net::UdpSocket::bind((LOOPBACK, 0)).expect("a port")
    }

    fn number(socket: &std::net::UdpSocket) -> u16 {
        socket.local_addr().expect("bound").port()
    }

    /// A pair that hears a peer who announced to send from `announced`.
    fn pair(announced: [u16; 2]) -> Pair {
        let pair = Pair::bind(LOOPBACK, None, Announced { peer: LOOPBACK, ports: announced, payload_type: 96 });
        pair.expect("ports")
    }

    fn rtp(sequence: u16) -> Vec<u8> {
        packet::build(true, 96, sequence, 0, 1, b"frame")
    }

    /// Sends each datagram from its socket, and says which of them are heard.
    async fn heard(pair: &mut Pair, sent: &[(&std::net::UdpSocket, Vec<u8>)], now: Instant) -> Vec<bool> {
        let (to, _) = pair.ports().expect("bound");
        let (mut buffer, mut all) = ([0; 64], Vec::new());
        for (from, bytes) in sent {
            let foreign = pair.foreign;
            from.send_to(bytes, (LOOPBACK, to)).expect("sent");
            all.push(loop {
                std::future::poll_fn(|context| pair.poll_ready(context)).await;
                let heard = pair.receive(RTP, &mut buffer, now).map(<[u8]>::to_vec);
                if heard.is_some() || pair.foreign > foreign {
                    break heard.as_ref() == Some(bytes);
                }
            });
        }
        all
    }

    #[tokio::test]
    async fn ports_are_neighbours_and_only_the_peer_is_heard() {
        let (camera, other) = (port(), std::net::UdpSocket::bind(("127.0.0.2", 0)).expect("a port"));
        let mut pair = pair([number(&camera), 9]);
        let (even, odd) = pair.ports().expect("bound");
        assert_eq!((even % 2, odd), (0, even + 1));
        let sent = [(&other, rtp(1)), (&camera, rtp(2)), (&other, rtp(3)), (&camera, rtp(4))];
        assert_eq!(heard(&mut pair, &sent, Instant::now()).await, [false, true, false, true]);
        assert_eq!(pair.foreign, 2);
    }

    #[tokio::test]
    async fn what_the_peer_would_not_send_takes_no_seat() {
        let (camera, other) = (port(), port());
        let mut pair = pair([9, 9]);
        let mut old = rtp(1);
        old[0] = 0x40;
        let other_type = packet::build(true, 97, 1, 0, 1, b"frame");
        let nothing = packet::build(true, 96, 1, 0, 1, b"");
        let bad = [Vec::new(), b"hello".to_vec(), old, other_type, nothing];
        let sent: Vec<_> = bad.into_iter().map(|bytes| (&other, bytes)).chain([(&camera, rtp(2))]).collect();
        assert_eq!(heard(&mut pair, &sent, Instant::now()).await, [false, false, false, false, false, true]);
        let later = [(&other, rtp(3)), (&camera, Vec::new()), (&camera, rtp(4))];
        assert_eq!(heard(&mut pair, &later, Instant::now()).await, [false, true, true], "the camera is latched");
    }

    #[tokio::test]
    async fn the_announced_port_takes_over_from_any_other() {
        let (camera, other) = (port(), port());
        let mut pair = pair([number(&camera), 9]);
        let sent = [(&other, rtp(1)), (&camera, Vec::new()), (&camera, rtp(2)), (&other, rtp(3)), (&camera, rtp(4))];
        assert_eq!(heard(&mut pair, &sent, Instant::now()).await, [true, false, true, false, true]);
    }

    #[tokio::test]
    async fn a_silent_source_gives_way_to_another_port_of_its_peer() {
        let (before, after) = (port(), port());
        let mut pair = pair([9, 9]);
        let now = Instant::now();
        assert_eq!(heard(&mut pair, &[(&before, rtp(1)), (&after, rtp(2))], now).await, [true, false]);
        let moved = [(&after, rtp(3)), (&before, rtp(4))];
        assert_eq!(heard(&mut pair, &moved, now + SILENT).await, [true, false]);
    }
}

//! The one UDP socket: datagrams of all peers in, and packets of a picture out in one system call where the kernel can (GSO).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Bytes of a datagram or of several that the kernel put together (GRO).
const BUFFER: usize = 64 << 10;
/// Longest datagram that is looked at; RTP of WebRTC keeps below an Ethernet frame.
const MAX_DATAGRAM: usize = 2_048;
/// Most bytes in one system call: below what a datagram may have.
const MAX_BATCH: usize = 60_000;
/// What the kernel may hold for us while we do something else.
const KERNEL_BUFFER: usize = 8 << 20;

/// A datagram that came.
#[derive(Debug)]
pub(super) struct Came {
    pub from: SocketAddr,
    /// Which of our addresses it was sent to.
    pub to: Option<IpAddr>,
    pub bytes: BytesMut,
}

/// Where a datagram goes: to whom, and from which of our addresses.
pub(super) type Way = (SocketAddr, Option<IpAddr>);

/// Datagrams on their way out: those of one length that go one way are put together for one system call.
pub(super) struct Batch {
    bytes: BytesMut,
    way: Option<Way>,
    /// Length of each but the last.
    segment: usize,
    count: usize,
    /// The last one is shorter: the kernel cuts all but the last to the same length.
    closed: bool,
    lost: u64,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let bytes = BytesMut::with_capacity(MAX_DATAGRAM + MAX_BATCH);
        Batch { bytes, way: None, segment: 0, count: 0, closed: false, lost: 0 }
    }

    /// Takes the next datagram; those before it are sent when it does not go with them.
    pub(super) fn push(&mut self, socket: &Socket, way: Way, datagram: &[u8]) {
        let fits = !self.closed
            && self.way == Some(way)
            && datagram.len() <= self.segment
            && self.count < socket.state.max_gso_segments()
            && self.bytes.len() + datagram.len() <= MAX_BATCH;
        if !fits {
            self.send(socket);
            (self.way, self.segment) = (Some(way), datagram.len());
        }
        self.bytes.extend_from_slice(datagram);
        self.count += 1;
        self.closed = datagram.len() < self.segment;
    }

    /// Sends what is left; how many datagrams were lost since the last time.
    pub(super) fn finish(&mut self, socket: &Socket) -> u64 {
        self.send(socket);
        std::mem::take(&mut self.lost)
    }

    fn send(&mut self, socket: &Socket) {
        if let Some((to, from)) = self.way.take()
            && socket.send(to, from, &self.bytes, self.segment) == Sent::Full
        {
            self.lost += self.count as u64;
        }
        self.bytes.clear();
        (self.count, self.closed) = (0, false);
    }
}

/// What became of a sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Yes,
    /// The kernel has no room: it is lost, like a packet on the way.
    Full,
}

/// The socket.
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
    is_ipv6: bool,
}

/// Opens the port.
///
/// # Errors
/// When it is taken, or not ours to open.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let domain = if address.is_ipv6() { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // As much of it as the system allows; less is no reason not to serve.
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER).and_then(|()| socket.set_send_buffer_size(KERNEL_BUFFER));
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Socket {
    /// The loop's end of a port that [`bind`] opened.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Socket> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let io = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&io).into())?;
        let buffers = (0..BATCH_SIZE).map(|_| vec![0; BUFFER]).collect();
        Ok(Socket { io, state, buffers, metas: vec![RecvMeta::default(); BATCH_SIZE], is_ipv6 })
    }

    /// Resolves when there is something to receive.
    pub(super) async fn readable(&self) {
        // An error is found by receiving.
        let _ = self.io.readable().await;
    }

    /// Receives what is there, as far as a batch goes; whether there may be more.
    pub(super) fn receive(&mut self, mut take: impl FnMut(Came)) -> bool {
        let mut slices: Vec<IoSliceMut<'_>> = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let received =
            self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut slices, &mut self.metas));
        let Ok(count) = received else { return false };
        for (meta, buffer) in self.metas[..count].iter().zip(&self.buffers) {
            let whole = &buffer[..meta.len.min(buffer.len())];
            for bytes in whole.chunks(meta.stride.max(1)).filter(|bytes| bytes.len() <= MAX_DATAGRAM) {
                let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
                take(Came { from, to: meta.dst_ip, bytes: BytesMut::from(bytes) });
            }
        }
        count == BATCH_SIZE
    }

    /// Sends datagrams of `segment` bytes each, the last may be shorter, from our address `from`.
    fn send(&self, to: SocketAddr, from: Option<IpAddr>, contents: &[u8], segment: usize) -> Sent {
        let destination = match (self.is_ipv6, to) {
            (true, SocketAddr::V4(v4)) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            _ => to,
        };
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: from };
        let sent = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit));
        match sent {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory) => Sent::Full,
            // The peer is unreachable just now: consent tells when it is for good.
            Ok(()) | Err(_) => Sent::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_of_a_batch_come_whole_and_in_order() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = Socket::new(bind(any).expect("a port")).expect("a socket");
        socket.io.writable().await.expect("there is room");
        let peers = [0; 2].map(|_| std::net::UdpSocket::bind(any).expect("a port"));
        let ways: Vec<Way> = peers.iter().map(|peer| (peer.local_addr().expect("bound"), None)).collect();
        // A shorter one ends a call, a longer one or another peer begins one, and one call takes only so many.
        let mut sent = vec![(0, 1_200), (0, 1_200), (0, 300), (0, 300), (0, 1_200), (1, 1_200), (1, 1_300), (0, 1)];
        sent.extend([(1, 1_200); 60]);
        let datagram = |number: usize, length: usize| vec![number as u8; length];
        let mut batch = Batch::new();
        for (number, (peer, length)) in sent.iter().enumerate() {
            batch.push(&socket, ways[*peer], &datagram(number, *length));
        }
        assert_eq!(batch.finish(&socket), 0);
        assert_eq!(batch.finish(&socket), 0, "nothing is left");
        for (at, peer) in peers.iter().enumerate() {
            for (number, (_, length)) in sent.iter().enumerate().filter(|(_, (to, _))| *to == at) {
                let mut buffer = [0; MAX_DATAGRAM];
                let length_came = peer.recv(&mut buffer).expect("a datagram");
                assert_eq!(buffer[..length_came], datagram(number, *length), "datagram {number}");
            }
        }
    }
}

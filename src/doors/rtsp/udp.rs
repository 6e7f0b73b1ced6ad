//! Datagram ports of a session's track.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::task::{Context, Poll};

use tokio::net::UdpSocket;

/// Datagrams of strangers that are dropped in one go.
const FOREIGN_AT_ONCE: usize = 16;

/// Largest datagram that there is: none is cut.
pub(super) const MAX_DATAGRAM: usize = 65_535;
/// What the kernel may hold for us while the task is busy: about a second of 16 Mbit/s. The system may give less.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Tries until a free even port with a free odd one above it is found.
const TRIES: usize = 64;

/// Two sockets on neighbouring ports: RTP on the even one (RFC 3550 section 11).
pub(super) struct Pair {
    sockets: [UdpSocket; 2],
    /// The control connection's peer: nobody else is heard.
    peer: IpAddr,
    /// Where RTP and RTCP came from first; before that, RTCP goes to the announced port.
    sources: [Option<SocketAddr>; 2],
    announced_rtcp: u16,
    /// Datagrams of others.
    pub foreign: u64,
}

/// Which of the two.
pub(super) const RTP: usize = 0;
/// See [`RTP`].
pub(super) const RTCP: usize = 1;

impl Pair {
    /// Binds two ports at `local`, of `range` if given, to hear `peer` alone.
    pub(super) fn bind(
        local: IpAddr,
        range: Option<&RangeInclusive<u16>>,
        peer: IpAddr,
        announced_rtcp: u16,
    ) -> io::Result<Pair> {
        let mut error = io::Error::new(io::ErrorKind::AddrInUse, "no free pair of ports");
        for port in candidates(range) {
            match bind_two(local, port) {
                Ok(Some(sockets)) => {
                    return Ok(Pair { sockets, peer, sources: [None; 2], announced_rtcp, foreign: 0 });
                }
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

    /// The next datagram from our peer; none when there is none now, or strangers' stand before it: those are counted and
    /// dropped some at a time, so that a flood of them holds up nobody.
    pub(super) fn receive<'a>(&mut self, which: usize, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        for _ in 0..FOREIGN_AT_ONCE {
            // An error is a bounced report of ours, or nothing to read.
            let (length, from) = self.sockets[which].try_recv_from(buffer).ok()?;
            let source = self.sources[which];
            if from.ip().to_canonical() == self.peer.to_canonical() && source.is_none_or(|source| source == from) {
                self.sources[which] = Some(from);
                return Some(&buffer[..length]);
            }
            self.foreign += 1;
        }
        None
    }

    /// Sends a report; one that is lost is followed by another.
    pub(super) fn report(&self, bytes: &[u8]) {
        let to = self.sources[RTCP].unwrap_or(SocketAddr::new(self.peer, self.announced_rtcp));
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

    #[tokio::test]
    async fn the_first_source_is_latched_and_others_are_counted() {
        let mut pair = Pair::bind(LOOPBACK, None, LOOPBACK, 9).expect("ports");
        let (rtp, rtcp) = pair.ports().expect("bound");
        assert_eq!((rtp % 2, rtcp), (0, rtp + 1));
        let camera = std::net::UdpSocket::bind((LOOPBACK, 0)).expect("a port");
        let other = std::net::UdpSocket::bind(("127.0.0.2", 0)).expect("a port");
        let mut buffer = [0; 64];
        for (from, text) in [(&other, b"no"), (&camera, b"hi"), (&other, b"no"), (&camera, b"yo")] {
            from.send_to(text, (LOOPBACK, rtp)).expect("sent");
        }
        let mut heard = Vec::new();
        while heard.len() < 2 {
            std::future::poll_fn(|context| pair.poll_ready(context)).await;
            heard.extend(pair.receive(RTP, &mut buffer).map(<[u8]>::to_vec));
        }
        assert_eq!(heard, [b"hi", b"yo"]);
        assert_eq!(pair.foreign, 2);
    }
}

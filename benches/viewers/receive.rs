//! A socket, and what comes with the time at which the kernel had it: how late this process looks is nobody's delay.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimestampns};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt};

/// Longest datagram that is looked at.
pub const MAX_DATAGRAM: usize = 2_048;
/// A group of pictures at once.
const KERNEL_BUFFER: usize = 4 << 20;

/// Opens a socket on any port of the loopback interface.
pub fn open() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    // As much of it as the system allows.
    let _ = setsockopt(&socket, RcvBuf, &KERNEL_BUFFER);
    Ok(socket)
}

/// The next datagram in `buffer`: its length, from where it came, and when, in nanoseconds since 1970; none when there is none.
pub fn next(socket: &UdpSocket, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Option<(usize, SocketAddr, u64)>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let came = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(control), MsgFlags::MSG_DONTWAIT);
    let came = match came {
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(None),
        other => other?,
    };
    let from = came.address.ok_or_else(|| io::Error::other("a datagram from nowhere"))?;
    let time = came.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(time),
        _ => None,
    });
    let time = time.ok_or_else(|| io::Error::other("the kernel tells no times"))?;
    let nanos = time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64;
    Ok(Some((came.bytes, SocketAddr::V4(from.into()), nanos)))
}

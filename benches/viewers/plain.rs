//! Packets of the same sizes over plain UDP, without keys or sessions: what the system alone takes.

use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use serde_json::json;

use crate::receive::{self, MAX_DATAGRAM};
use crate::{Failed, Order, obey};

/// Pictures a second.
const RATE: f64 = 30.0;
/// Datagrams and bytes in one call, as the kernel allows.
const MAX_SEGMENTS: usize = 64;
const MAX_BYTES: usize = 60_000;

/// Reads all that comes to `count` sockets.
pub fn drain(count: &str) -> Result<(), Failed> {
    let mut poll = Poll::new()?;
    let mut sockets = Vec::new();
    for number in 0..count.parse()? {
        let mut socket = receive::open()?;
        poll.registry().register(&mut socket, Token(number), Interest::READABLE)?;
        sockets.push(socket);
    }
    let waker = Arc::new(Waker::new(poll.registry(), Token(sockets.len()))?);
    let (orders, ordered) = mpsc::channel();
    // What is closed wakes nobody.
    let wakes = waker.clone();
    obey(orders, move || wakes.wake().expect("the loop's own"));
    let ports = sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<std::io::Result<Vec<_>>>()?;
    println!("{}", json!({ "ports": ports }));
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let (mut buffer, mut events, mut packets) = (vec![0; MAX_DATAGRAM], Events::with_capacity(1_024), 0u64);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let Some(socket) = sockets.get(event.token().0) else { continue };
            while receive::next(socket, &mut buffer, &mut control)?.is_some() {
                packets += 1;
            }
        }
        while let Ok(order) = ordered.try_recv() {
            match order {
                Order::Begin => packets = 0,
                Order::End => println!("{}", json!({ "packets": packets })),
                Order::Leave => return Ok(()),
            }
        }
    }
}

/// Sends pictures whose packets have these sizes to each of `ports`, thirty a second; both are files of JSON.
pub fn send(ports: &str, sizes: &str, seconds: &str, many: bool) -> Result<(), Failed> {
    let ports: Vec<u16> = serde_json::from_value(serde_json::from_reader(std::fs::File::open(ports)?)?)?;
    let sizes: Vec<Vec<usize>> = serde_json::from_value(serde_json::from_reader(std::fs::File::open(sizes)?)?)?;
    let to: Vec<SockaddrIn> = ports.iter().map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port).into()).collect();
    let pictures = (seconds.parse::<f64>()? * RATE) as usize;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (start, bytes) = (Instant::now(), vec![0x80; MAX_BYTES]);
    let (mut packets, mut calls) = (0u64, 0u64);
    for (number, picture) in sizes.iter().cycle().take(pictures).enumerate() {
        let due = start + Duration::from_secs_f64(number as f64 / RATE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let batches = if many { batches(picture) } else { picture.iter().map(|size| (*size, *size)).collect() };
        for to in &to {
            for (length, segment) in &batches {
                put(&socket, &bytes[..*length], *segment, to)?;
            }
        }
        packets += (picture.len() * to.len()) as u64;
        calls += (batches.len() * to.len()) as u64;
    }
    println!("{}", json!({ "packets": packets, "calls": calls, "seconds": start.elapsed().as_secs_f64() }));
    Ok(())
}

/// The packets of a picture as calls: bytes in all, and of each packet but the last.
fn batches(sizes: &[usize]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    let (mut count, mut closed) = (0, true);
    for size in sizes {
        match out.last_mut() {
            Some((length, segment))
                if !closed && size <= segment && count < MAX_SEGMENTS && *length + size <= MAX_BYTES =>
            {
                *length += size;
                closed = size < segment;
                count += 1;
            }
            _ => {
                out.push((*size, *size));
                (count, closed) = (1, false);
            }
        }
    }
    out
}

fn put(socket: &std::net::UdpSocket, bytes: &[u8], segment: usize, to: &SockaddrIn) -> Result<(), Failed> {
    let length = segment as u16;
    let segments = [ControlMessage::UdpGsoSegments(&length)];
    let control = if bytes.len() > segment { &segments[..] } else { &[] };
    match sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::empty(), Some(to)) {
        Ok(_) | Err(Errno::ECONNREFUSED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

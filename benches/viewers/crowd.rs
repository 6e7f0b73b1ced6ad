//! Viewers: one thread joins them, one loop drives all of them.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use serde_json::{Value, json};
use str0m::net::{Protocol, Receive};
use str0m::{Event, Input, Output, Rtc};

use crate::counts::{Counts, summary};
use crate::join::{Door, Joined};
use crate::receive::{self, MAX_DATAGRAM};
use crate::{Failed, Order, obey};

/// Wakes the loop for what is no datagram.
const NEWS: Token = Token(0);
/// Between looks at timers.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Datagrams of one socket before others have their turn.
const MAX_IN_A_ROW: usize = 64;

struct Viewer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    location: String,
    due: Instant,
    since: Instant,
    connected: Option<Instant>,
    counts: Counts,
}

/// What became of those who came.
#[derive(Default)]
struct Tally {
    joined: u64,
    failed: u64,
    connected: u64,
    left: u64,
    connect_ms: Vec<f64>,
}

struct Crowd {
    poll: Poll,
    viewers: HashMap<usize, Viewer>,
    stay: Option<Duration>,
    /// What their camera logs.
    camera: String,
    leaving: Sender<String>,
    tally: Tally,
    buffer: Vec<u8>,
    control: Vec<u8>,
}

/// Watches with `count` viewers, one more each `every` milliseconds, what a camera sends that logs to `camera`.
pub fn watch(url: &str, token: &str, camera: &str, count: &str, every: &str, stay: Option<&str>) -> Result<(), Failed> {
    let (count, every): (u64, f64) = (count.parse()?, every.parse()?);
    let stay = stay.map(str::parse).transpose()?.map(Duration::from_secs_f64);
    let door = Door::new(url, token);
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), NEWS)?);
    let (came, coming) = mpsc::channel();
    let (gone, going) = mpsc::channel();
    let (orders, ordered) = mpsc::channel();
    let wake = {
        let waker = waker.clone();
        move || waker.wake().expect("the loop's own")
    };
    let joining = {
        let (door, wake) = (door.clone(), wake.clone());
        std::thread::spawn(move || join_all(&door, count, Duration::from_secs_f64(every / 1e3), &came, wake))
    };
    let leaving = std::thread::spawn(move || going.iter().for_each(|location: String| door.leave(&location)));
    obey(orders, wake);
    let control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let (viewers, tally, buffer) = (HashMap::new(), Tally::default(), vec![0; MAX_DATAGRAM]);
    let mut crowd = Crowd { poll, viewers, stay, camera: camera.to_owned(), leaving: gone, tally, buffer, control };
    crowd.run(count, &coming, &ordered)?;
    drop(crowd);
    drop(coming);
    let panicked = joining.join().is_err() || leaving.join().is_err();
    if panicked { Err("a thread ended early".into()) } else { Ok(()) }
}

fn join_all(door: &Door, count: u64, every: Duration, came: &Sender<Result<Joined, Failed>>, wake: impl Fn()) {
    let start = Instant::now();
    for number in 0..count {
        std::thread::sleep((start + every.mul_f64(number as f64)).saturating_duration_since(Instant::now()));
        if came.send(door.join()).is_err() {
            return;
        }
        wake();
    }
}

impl Crowd {
    fn run(
        &mut self,
        count: u64,
        coming: &Receiver<Result<Joined, Failed>>,
        ordered: &Receiver<Order>,
    ) -> Result<(), Failed> {
        let mut events = Events::with_capacity(1_024);
        let (mut look_at, mut ready) = (Instant::now(), false);
        // Sockets that had more than their turn.
        let mut more: Vec<usize> = Vec::new();
        loop {
            let wait = if more.is_empty() { look_at.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            let readable = events.iter().map(|event| event.token()).filter(|token| *token != NEWS).map(|token| token.0);
            for key in std::mem::take(&mut more).into_iter().chain(readable) {
                if self.receive(key)? {
                    more.push(key);
                }
            }
            more.sort_unstable();
            more.dedup();
            while let Ok(joined) = coming.try_recv() {
                self.enter(joined)?;
            }
            loop {
                match ordered.try_recv() {
                    Ok(Order::Begin) => self.begin(),
                    Ok(Order::End) => println!("{}", self.end()?),
                    Ok(Order::Leave) => return self.leave(),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if Instant::now() >= look_at {
                self.look()?;
                look_at = Instant::now() + LOOK_EVERY;
            }
            // Those who stay for a while are never all there at once: then it is when all have left.
            let there = match self.stay {
                Some(_) => self.tally.left + self.tally.failed,
                None => self.tally.connected + self.tally.failed,
            };
            if !ready && there >= count {
                ready = true;
                println!("{}", self.said());
            }
        }
    }

    fn enter(&mut self, joined: Result<Joined, Failed>) -> io::Result<()> {
        let Joined { rtc, mut socket, location } = match joined {
            Ok(joined) => joined,
            Err(error) => {
                eprintln!("viewers: not joined: {error}");
                self.tally.failed += 1;
                return Ok(());
            }
        };
        self.tally.joined += 1;
        let key = self.tally.joined as usize;
        self.poll.registry().register(&mut socket, Token(key), Interest::READABLE)?;
        let (address, now) = (socket.local_addr()?, Instant::now());
        let counts = Counts::default();
        let viewer = Viewer { rtc, socket, address, location, due: now, since: now, connected: None, counts };
        self.viewers.insert(key, viewer);
        Ok(())
    }

    /// Takes what came for a viewer; whether there may be more.
    fn receive(&mut self, key: usize) -> Result<bool, Failed> {
        let Some(viewer) = self.viewers.get_mut(&key) else { return Ok(false) };
        for _ in 0..MAX_IN_A_ROW {
            let Some((length, from, nanos)) = receive::next(&viewer.socket, &mut self.buffer, &mut self.control)?
            else {
                return Ok(false);
            };
            let (bytes, now) = (&self.buffer[..length], Instant::now());
            viewer.counts.datagram(bytes);
            // What is no packet of its own is none of its business.
            let Ok(contents) = bytes.try_into() else { continue };
            let came = Receive { proto: Protocol::Udp, source: from, destination: viewer.address, contents };
            viewer.rtc.handle_input(Input::Receive(now, came))?;
            viewer.take(nanos, &mut self.tally)?;
        }
        Ok(true)
    }

    /// Gives every viewer the time, and sends away whose time is over.
    fn look(&mut self) -> Result<(), Failed> {
        let now = Instant::now();
        let mut over = Vec::new();
        for (key, viewer) in &mut self.viewers {
            if now >= viewer.due {
                viewer.rtc.handle_input(Input::Timeout(now))?;
                viewer.take(0, &mut self.tally)?;
            }
            let stayed = now.saturating_duration_since(viewer.connected.unwrap_or(viewer.since));
            if self.stay.is_some_and(|stay| stayed >= stay) || !viewer.rtc.is_alive() {
                over.push(*key);
            }
        }
        for key in over {
            let Some(mut viewer) = self.viewers.remove(&key) else { continue };
            self.poll.registry().deregister(&mut viewer.socket)?;
            self.tally.left += 1;
            // Half of them say so; the others are not heard of again.
            if key % 2 == 0 {
                let _ = self.leaving.send(viewer.location);
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        for (number, viewer) in self.viewers.values_mut().enumerate() {
            viewer.counts.clear(number == 0);
        }
    }

    fn end(&self) -> Result<Value, Failed> {
        summary(self.viewers.values().map(|viewer| &viewer.counts), &self.camera)
    }

    fn said(&mut self) -> Value {
        let Tally { joined, failed, connected, left, connect_ms } = &mut self.tally;
        connect_ms.sort_by(f64::total_cmp);
        let p50 = connect_ms.get(connect_ms.len() / 2);
        json!({ "joined": joined, "failed": failed, "connected": connected, "left": left, "connect_ms_p50": p50 })
    }

    fn leave(&mut self) -> Result<(), Failed> {
        for (_, viewer) in self.viewers.drain() {
            let _ = self.leaving.send(viewer.location);
        }
        Ok(())
    }
}

impl Viewer {
    /// Takes what its peer has for it after something that came at `nanos`.
    fn take(&mut self, nanos: u64, tally: &mut Tally) -> Result<(), Failed> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) => {
                    self.due = due;
                    return Ok(());
                }
                Output::Transmit(transmit) => match self.socket.send_to(&transmit.contents, transmit.destination) {
                    Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
                        return Err(error.into());
                    }
                    _ => {}
                },
                Output::Event(Event::Connected) => {
                    self.connected = Some(Instant::now());
                    tally.connected += 1;
                    tally.connect_ms.push(self.since.elapsed().as_secs_f64() * 1e3);
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    self.counts.packet(*packet.seq_no, packet.header.marker, &packet.payload, nanos);
                }
                Output::Event(_) => {}
            }
        }
    }
}

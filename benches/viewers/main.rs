//! Viewers for the benchmark `webrtc`, many in one process, and plain sockets to hold against them.
//!
//! ```text
//! viewers watch URL TOKEN LOG COUNT EVERY_MS [STAY_S]   viewers of a WHEP address, one more each EVERY_MS, each for STAY_S
//! viewers drain COUNT                                   plain sockets that read all that comes
//! viewers plain PORTS SIZES SECONDS one|gso             sends packets of these sizes to those ports, a call each or for many
//! viewers knock URL TOKEN PER_SECOND SECONDS            offers to a WHEP address that nothing follows
//! ```
//!
//! LOG is what the camera writes (`benches/camera.py`). `watch` and `drain` say a line of JSON when all are there, and then do what the lines of their input say: `begin` to count
//! from now on, `end` to say what was counted; at its end they leave. What WebRTC is comes from str0m, which shares nothing
//! with what the server is made of.
//!
//! Not here: what is measured of the server (`benches/webrtc.py`), and browsers (`benches/webrtc.mjs`).

mod counts;
mod crowd;
mod join;
mod plain;
mod receive;

use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::mpsc::Sender;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What the input says.
pub enum Order {
    Begin,
    End,
    Leave,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["watch", url, token, log, count, every] => crowd::watch(url, token, log, count, every, None),
        ["watch", url, token, log, count, every, stay] => crowd::watch(url, token, log, count, every, Some(stay)),
        ["drain", count] => plain::drain(count),
        ["plain", ports, sizes, seconds, how @ ("one" | "gso")] => plain::send(ports, sizes, seconds, how == "gso"),
        ["knock", url, token, rate, seconds] => join::knock(url, token, rate, seconds),
        _ => Err("usage: viewers watch|drain|plain|knock ...; main.rs says what follows".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("viewers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Hands on the lines of the input, and wakes who waits for them.
fn obey(orders: Sender<Order>, wake: impl Fn() + Send + 'static) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let order = match line.trim() {
                "begin" => Order::Begin,
                "end" => Order::End,
                _ => continue,
            };
            if orders.send(order).is_err() {
                return;
            }
            wake();
        }
        if orders.send(Order::Leave).is_ok() {
            wake();
        }
    });
}

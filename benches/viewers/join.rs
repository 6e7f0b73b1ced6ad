//! Offers over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use serde_json::json;
use str0m::change::SdpAnswer;
use str0m::crypto::CryptoProvider;
use str0m::media::{Direction, MediaKind};
use str0m::{Candidate, Rtc, RtcConfig};

use crate::{Failed, receive};

/// Connections that knock at once.
const HANDS: u64 = 16;

/// A viewer that was answered, and has not connected yet.
pub struct Joined {
    pub rtc: Rtc,
    pub socket: UdpSocket,
    /// Where its session can be ended.
    pub location: String,
}

/// Who offers where.
#[derive(Clone)]
pub struct Door {
    agent: ureq::Agent,
    crypto: Arc<CryptoProvider>,
    url: String,
    bearer: String,
}

impl Door {
    pub fn new(url: &str, token: &str) -> Door {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20)));
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        Door { agent: config.build().into(), crypto, url: url.to_owned(), bearer: format!("Bearer {token}") }
    }

    fn post(&self, offer: &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let request = self.agent.post(&self.url).header("content-type", "application/sdp");
        request.header("authorization", &self.bearer).send(offer)
    }

    /// Offers, and takes the answer.
    pub fn join(&self) -> Result<Joined, Failed> {
        let socket = receive::open()?;
        let config = RtcConfig::new().set_crypto_provider(self.crypto.clone()).set_rtp_mode(true);
        let mut rtc = config.clear_codecs().enable_h264(true).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr()?, "udp")?);
        let mut change = rtc.sdp_api();
        change.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = change.apply().ok_or("nothing to offer")?;
        let mut answer = self.post(&offer.to_sdp_string())?;
        let text = answer.body_mut().read_to_string()?;
        if answer.status() != 201 {
            return Err(format!("{}: {text}", answer.status()).into());
        }
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).ok_or("no location")?;
        let location = location.to_owned();
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&text)?)?;
        Ok(Joined { rtc, socket, location })
    }

    /// Ends a session as its owner does.
    pub fn leave(&self, location: &str) {
        let root = self.url.find("/whep/").map_or(self.url.as_str(), |at| &self.url[..at]);
        let address = if location.starts_with('/') { format!("{root}{location}") } else { location.to_owned() };
        if let Err(error) = self.agent.delete(address).header("authorization", &self.bearer).call() {
            eprintln!("viewers: a session could not be ended: {error}");
        }
    }

    fn offer(&self) -> Result<String, Failed> {
        let config = RtcConfig::new().set_crypto_provider(self.crypto.clone()).clear_codecs().enable_h264(true);
        let mut rtc = config.build(Instant::now());
        let mut change = rtc.sdp_api();
        change.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        Ok(change.apply().ok_or("nothing to offer")?.0.to_sdp_string())
    }
}

/// Offers so many times a second, and does nothing with the answers; says how many came of each kind.
pub fn knock(url: &str, token: &str, rate: &str, seconds: &str) -> Result<(), Failed> {
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    let door = Door::new(url, token);
    let offer = door.offer()?;
    let (next, all) = (AtomicU64::new(0), (rate * seconds) as u64);
    let start = Instant::now();
    let mut answers = std::collections::BTreeMap::<String, u64>::new();
    std::thread::scope(|scope| {
        let hand = || {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= all {
                    return answers;
                }
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                answers.push(match door.post(&offer) {
                    Ok(mut answer) => match answer.body_mut().read_to_vec() {
                        Ok(_) => answer.status().as_u16().to_string(),
                        Err(error) => error.to_string(),
                    },
                    Err(error) => error.to_string(),
                });
            }
        };
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(hand)).collect();
        for answer in hands.into_iter().filter_map(|hand| hand.join().ok()).flatten() {
            *answers.entry(answer).or_default() += 1;
        }
    });
    println!("{}", json!({ "answers": answers, "seconds": start.elapsed().as_secs_f64() }));
    Ok(())
}

//! What a peer reports of the media, heard on the way in: `rtc` acts on reports itself and shows them to nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Most reports that wait to be taken; a peer that sends more between two looks has said nothing new.
const MAX_WAITING: usize = 64;

/// What a report says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// A viewer cannot decode what it has: PLI or FIR (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1).
    KeyPicture,
    /// At `timestamp` of `ssrc` the sender's clock showed `ntp` (RFC 3550 section 6.4.1).
    Sender { ssrc: u32, ntp: u64, timestamp: u32 },
    /// Of the packets sent lately, this share did not arrive, in 1/256.
    Lost { fraction: u8 },
}

/// Reports that were heard and not taken yet.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<VecDeque<Report>>>);

impl Heard {
    /// The next report.
    pub(crate) fn take(&self) -> Option<Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn put(&self, report: Report) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING && waiting.back() != Some(&report) {
            waiting.push_back(report);
        }
    }
}

/// The interceptor that listens; it changes nothing.
pub(super) struct Listener {
    heard: Heard,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Listener {
    pub(super) fn new(heard: Heard) -> Listener {
        Listener { heard, reads: VecDeque::new(), writes: VecDeque::new() }
    }

    fn hear(&self, packet: &dyn rtc::rtcp::Packet) {
        let any = packet.as_any();
        if any.is::<PictureLossIndication>() || any.is::<FullIntraRequest>() {
            self.heard.put(Report::KeyPicture);
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.heard.put(Report::Sender { ssrc: report.ssrc, ntp: report.ntp_time, timestamp: report.rtp_time });
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>()
            && let Some(block) = report.reports.first()
        {
            self.heard.put(Report::Lost { fraction: block.fraction_lost });
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Listener {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(reports) = &packet.message.packet {
            reports.iter().for_each(|report| self.hear(&**report));
        }
        self.reads.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.writes.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Listener {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

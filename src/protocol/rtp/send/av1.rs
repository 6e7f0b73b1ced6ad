//! AV1 in RTP (AOM "RTP Payload Format For AV1", version 1.0): OBU elements into packets, up to three in each.

use std::collections::VecDeque;

use media::codec::CodecError;
use media::codec::av1::{self, Obu};

use super::Payload;

/// Most elements in a packet that need no length of their own for the last.
const MAX_ELEMENTS: u8 = 3;

/// What of an OBU is still to be sent: its header without a size, then its payload.
struct Element<'a> {
    header: Vec<u8>,
    payload: &'a [u8],
}

impl Element<'_> {
    fn of<'a>(obu: &Obu<'a>) -> Element<'a> {
        let mut header = vec![obu.kind << 3 | u8::from(obu.extension.is_some()) << 2];
        header.extend(obu.extension);
        Element { header, payload: obu.payload }
    }

    fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }
}

/// Gives the payloads of a temporal unit to `put`, each of at most `max` bytes. Where decoding can start at it, `header` is the
/// payload of the sequence header that goes in front if it brings none: files may have it in their sample entry alone.
///
/// # Errors
/// When an OBU is cut.
pub(super) fn cut(
    unit: &[u8],
    header: Option<&[u8]>,
    max: usize,
    put: &mut impl FnMut(Payload<'_>),
) -> Result<(), CodecError> {
    let obus = av1::obus(unit).collect::<Result<Vec<_>, _>>()?;
    let sent = || obus.iter().filter(|obu| !av1::is_left_out(obu.kind));
    let mut elements: VecDeque<Element<'_>> = sent().map(Element::of).collect();
    let brings_header = sent().any(|obu| obu.kind == av1::SEQUENCE_HEADER);
    if let Some(payload) = header.filter(|_| !brings_header) {
        elements.push_front(Element::of(&Obu { kind: av1::SEQUENCE_HEADER, extension: None, payload }));
    }
    // A new coded video sequence begins with its header.
    let mut flags = u8::from(brings_header || header.is_some()) << 3;
    while !elements.is_empty() {
        // The aggregation header, then whole elements with their lengths, then the last without.
        let mut head = vec![flags];
        let mut count = 1;
        while count < MAX_ELEMENTS && elements.len() > 1 {
            let whole = &elements[0];
            let mut length = Vec::new();
            av1::put_size(&mut length, whole.len());
            // Some of the next must fit too, its header whole.
            if head.len() + length.len() + whole.len() + 3 > max {
                break;
            }
            head.extend(length);
            head.extend(&whole.header);
            head.extend(whole.payload);
            elements.pop_front();
            count += 1;
        }
        let Some(mut last) = elements.pop_front() else { break };
        head.append(&mut last.header);
        let (body, rest) = last.payload.split_at(last.payload.len().min(max - head.len()));
        head[0] |= count << 4 | u8::from(!rest.is_empty()) << 6;
        put(Payload { head: &head, body });
        flags = 0;
        if !rest.is_empty() {
            flags = 0x80;
            elements.push_front(Element { header: Vec::new(), payload: rest });
        }
    }
    Ok(())
}

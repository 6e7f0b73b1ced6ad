//! The Transport header of SETUP (RFC 2326 section 12.39), as far as recording needs it.
//!
//! Not by `rtsp-types`: its parser of this header panics on `dest_addr="\"` and on `mode="`, and knows `mode` in two
//! spellings only.

/// How packets of a track travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lower {
    /// On these channels of the connection.
    Interleaved { rtp: u8, rtcp: u8 },
    /// From these ports of the client.
    Datagrams { rtp: u16, rtcp: u16 },
}

/// One transport that a client offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offer {
    /// Over the connection, on these channels if named.
    Interleaved(Option<(u8, u8)>),
    /// By UDP, from these ports.
    Datagrams(u16, u16),
}

/// The offers for recording by unicast, in the client's order; what we do not know is left out.
pub(crate) fn offers(header: &str) -> Vec<Offer> {
    header.split(',').take(16).filter_map(offer).collect()
}

fn offer(text: &str) -> Option<Offer> {
    let mut parts = text.split(';').map(str::trim);
    let protocol = parts.next()?.to_ascii_uppercase();
    let (mut channels, mut ports) = (None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "multicast" => return None,
            "mode" if !value.eq_ignore_ascii_case("record") && !value.eq_ignore_ascii_case("receive") => return None,
            "interleaved" => channels = Some(pair::<u8>(value)?),
            "client_port" => ports = Some(pair::<u16>(value)?),
            _ => {}
        }
    }
    match protocol.as_str() {
        "RTP/AVP/TCP" => Some(Offer::Interleaved(channels)),
        // Ports below 1024 are other services: nobody is to be fed with our reports by a forged request.
        "RTP/AVP" | "RTP/AVP/UDP" => {
            ports.filter(|(rtp, rtcp)| *rtp >= 1024 && *rtcp >= 1024).map(|(rtp, rtcp)| Offer::Datagrams(rtp, rtcp))
        }
        _ => None,
    }
}

/// `4-5`, or `4` for `4-5`; none when equal or not numbers.
fn pair<T: std::str::FromStr + PartialEq + Copy + TryFrom<u32> + Into<u32>>(value: &str) -> Option<(T, T)> {
    let (first, second) = match value.split_once('-') {
        Some((first, second)) => (first.parse::<T>().ok()?, second.parse::<T>().ok()?),
        None => {
            let first = value.parse::<T>().ok()?;
            (first, T::try_from(first.into() + 1).ok()?)
        }
    };
    (first != second).then_some((first, second))
}

/// The header of the answer; `server` are our ports for datagrams.
pub(crate) fn answer(lower: Lower, server: Option<(u16, u16)>) -> String {
    match (lower, server) {
        (Lower::Interleaved { rtp, rtcp }, _) => format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp};mode=record"),
        (Lower::Datagrams { rtp, rtcp }, server) => {
            let (server_rtp, server_rtcp) = server.unwrap_or_default();
            format!("RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={server_rtp}-{server_rtcp};mode=record")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_of_real_clients() {
        let check = |header: &str, expected: &[Offer]| assert_eq!(offers(header), expected, "{header}");
        // ffmpeg 5.1.9 and rtspclientsink 1.22.0.
        check("RTP/AVP/TCP;unicast;interleaved=0-1;mode=record", &[Offer::Interleaved(Some((0, 1)))]);
        check("RTP/AVP/TCP;unicast;interleaved=2-3;mode=RECORD", &[Offer::Interleaved(Some((2, 3)))]);
        check("RTP/AVP/UDP;unicast;client_port=17644-17645;mode=record", &[Offer::Datagrams(17_644, 17_645)]);
        check("RTP/AVP;unicast;client_port=5000-5001;mode=\"RECORD\"", &[Offer::Datagrams(5_000, 5_001)]);
        check("RTP/AVP/TCP;unicast", &[Offer::Interleaved(None)]);
        check("RTP/AVP;unicast;client_port=5000", &[Offer::Datagrams(5_000, 5_001)]);
        check(
            "RTP/SAVP;unicast;client_port=5000-5001, RTP/AVP;multicast, rtp/avp/tcp;interleaved=4-5",
            &[Offer::Interleaved(Some((4, 5)))],
        );
    }

    #[test]
    fn hostile_offers_are_none() {
        for header in [
            "",
            ";;;",
            "RTP/AVP;unicast",
            "RTP/AVP;client_port=22-23",
            "RTP/AVP;client_port=5000-5000",
            "RTP/AVP;client_port=65535",
            "RTP/AVP;client_port=70000-70001",
            "RTP/AVP/TCP;interleaved=255",
            "RTP/AVP/TCP;interleaved=256-257",
            "RTP/AVP/TCP;interleaved=-1",
            "RTP/AVP/TCP;interleaved=1-1",
            "RTP/AVP/TCP;mode=\"",
            "RTP/AVP/TCP;mode=play",
            "RTP/AVP;multicast;client_port=5000-5001",
        ] {
            assert!(offers(header).is_empty(), "{header}");
        }
    }
}

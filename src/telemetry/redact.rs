//! Takes secrets out of a text: values of `token=`, what stands before the `@` of an address, and anything that looks
//! like one of our tokens.

use std::borrow::Cow;

/// What a secret may follow, or start with. All of its value is replaced.
const MARKS: [(&str, bool); 4] = [("token=", false), ("Bearer ", false), ("bearer ", false), ("kin_", true)];

/// Shortest run after `kin_` that is taken for a token, so that ordinary words with that beginning stay.
const SECRET_LEN_MIN: usize = 16;

/// `text` with every secret replaced by `***`.
pub(super) fn redact(text: &str) -> Cow<'_, str> {
    if !text.contains("://") && !MARKS.iter().any(|(mark, _)| text.contains(mark)) {
        return Cow::Borrowed(text);
    }
    let text = without_users(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((at, mark, own)) = next_mark(rest) {
        let start = at + mark.len();
        out.push_str(&rest[..start]);
        let value = &rest[start..];
        let end = value.find(|c: char| !is_secret(c)).unwrap_or(value.len());
        let hide = if own { end >= SECRET_LEN_MIN } else { end > 0 };
        out.push_str(if hide { "***" } else { &value[..end] });
        rest = &value[end..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Addresses without user and password: cameras write them into their requests.
fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, authority) = rest.split_at(at + "://".len());
        out.push_str(before);
        let end = authority.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(authority.len());
        rest = match authority[..end].rfind('@') {
            Some(user) => {
                out.push_str("***");
                &authority[user..]
            }
            None => authority,
        };
    }
    out.push_str(rest);
    out
}

fn next_mark(text: &str) -> Option<(usize, &'static str, bool)> {
    let found = MARKS.iter().filter_map(|(mark, own)| text.find(mark).map(|at| (at, *mark, *own)));
    found.min_by_key(|(at, _, _)| *at)
}

fn is_secret(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/=%".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_leave_no_trace_in_a_line() {
        let check = |text: &str, out: &str| assert_eq!(redact(text), out);
        check("GET /hls/a/index.m3u8?token=kin_abcDEF0123456789xyz&a=1", "GET /hls/a/index.m3u8?token=***&a=1");
        check("Authorization: Bearer kin_0123456789abcdef rest", "Authorization: Bearer *** rest");
        check("minted kin_0123456789abcdef0123 for x", "minted kin_*** for x");
        check("token=&x token=a token=b", "token=&x token=*** token=***");
        check("a kin_d of thing", "a kin_d of thing");
        check("nothing to hide", "nothing to hide");
        check("uri=rtsp://cam:s3cr@t@10.0.0.1:8554/gate x", "uri=rtsp://***@10.0.0.1:8554/gate x");
        check("rtsp://host/a@b and rtsp://u@h", "rtsp://host/a@b and rtsp://***@h");
        check("http://cam:x@h/?token=abc", "http://***@h/?token=***");
    }
}

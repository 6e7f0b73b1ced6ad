//! The block file: a fragmented MP4 that is also a log of records.
//!
//! Here: the bytes of heads, record headers, footers, and how a file is scanned. Not here: when files are
//! written and synced (`writer`), what a crash leaves and what becomes of it (`recover`), the packed
//! fragment index inside a footer (`packed`). `README.md` has the formats byte by byte.

pub(crate) mod footer;
pub(crate) mod head;
pub(crate) mod record;
pub(crate) mod scan;

pub(crate) use footer::Footer;
pub(crate) use record::{Kind, Record};

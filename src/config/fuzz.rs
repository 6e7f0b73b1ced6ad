//! Fuzz targets: the configuration file and the units in it, see `crate::fuzz`.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use super::load::{Loaded, Sources, merge, read};
use super::units::{Listen, PortRange, Size, Span};

/// A file: a configuration that prints and reads back the same, or a message.
pub(crate) fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let load = |text: &str| {
        let path = Path::new("kinora.toml");
        read(path, text).and_then(|table| merge(table, Some(path.to_owned()), &Sources::default()))
    };
    match load(text) {
        Ok(Loaded { config, .. }) => {
            let printed = toml::to_string(&config).expect("the tree has no value that TOML cannot write");
            let again = load(&printed).unwrap_or_else(|error| panic!("{error} in {printed}"));
            assert_eq!(again.config, config, "what is printed reads back the same");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Spans, sizes, addresses, ports: what is read is written, and read alike.
pub(crate) fn units(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    comes_back::<Span>(text);
    comes_back::<Size>(text);
    comes_back::<Listen>(text);
    comes_back::<PortRange>(text);
}

fn comes_back<T: FromStr + Display + PartialEq>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert!(written.parse::<T>().is_ok_and(|again| again == value), "{text:?} is written as {written:?}");
    }
}

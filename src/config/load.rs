//! Where values come from, in which order, and what is refused.

use std::path::{Path, PathBuf};

use media::StreamName;
use serde::Deserialize;
use toml::{Table, Value};

use super::memory;
use super::tree::{Config, Rtsp, Server, Tls};
use super::units::{PortRange, Size, Span};

/// Why there is no configuration. The message names the key and where it was set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    File { path: PathBuf, message: String },
    #[error("{source_name}: {message}")]
    Value { source_name: String, message: String },
    #[error("configuration: {0}")]
    Invalid(String),
}

/// What the configuration is made from; taken once, so that a reload sees the same environment and flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`; none looks at [`PLACES`].
    pub(crate) file: Option<PathBuf>,
    /// Environment variables that start with `KINORA_`.
    pub(crate) environment: Vec<(String, String)>,
    /// Flags: their name, the key they set, the value.
    pub(crate) flags: Vec<(&'static str, &'static str, String)>,
}

/// A configuration and what to say about how it was found.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) file: Option<PathBuf>,
    pub(crate) warnings: Vec<String>,
}

/// Where `kinora.toml` is looked for; the first that exists.
pub(crate) const PLACES: [&str; 2] = ["kinora.toml", "/etc/kinora/kinora.toml"];

/// Short names of common keys.
const SHORT: [(&str, &str); 8] = [
    ("KINORA_DATA_DIR", "server.data_dir"),
    ("KINORA_PUBLIC_URL", "server.public_url"),
    ("KINORA_HTTP", "http.listen"),
    ("KINORA_HTTPS", "http.tls_listen"),
    ("KINORA_RTSP", "rtsp.listen"),
    ("KINORA_RTSPS", "rtsp.tls_listen"),
    ("KINORA_WEBRTC_UDP", "webrtc.udp_listen"),
    ("KINORA_LOG", "log.filter"),
];

impl Sources {
    /// This process's environment, and nothing else yet.
    pub(crate) fn of_process() -> Sources {
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("KINORA_")).collect();
        Sources { environment, ..Sources::default() }
    }
}

/// Reads, merges and checks.
///
/// # Errors
/// When the file cannot be read or a value is not what its key wants.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let file = match &sources.file {
        Some(path) => Some(path.clone()),
        None => PLACES.iter().map(PathBuf::from).find(|path| path.exists()),
    };
    let table = match &file {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
            read(path, &text)?
        }
        None => Table::new(),
    };
    merge(table, file, sources)
}

/// The configuration whose file, if it came from one, says `table`.
pub(super) fn merge(mut table: Table, file: Option<PathBuf>, sources: &Sources) -> Result<Loaded, ConfigError> {
    let known = Table::try_from(every_key()).expect("the tree has no key that TOML cannot write");
    let mut warnings = Vec::new();
    for (name, value) in &sources.environment {
        match key_of(name, &known) {
            Key::Known(section, key) => set(&mut table, &known, name, (&section, &key), value)?,
            Key::Unknown => warnings.push(format!("{name} is no setting and is ignored")),
            Key::NotOurs => {}
        }
    }
    for (flag, path, value) in &sources.flags {
        let (section, key) = path.split_once('.').expect("flags name section.key");
        set(&mut table, &known, flag, (section, key), value)?;
    }
    let set_keys = table.clone();
    let is_set = |section: &str, key: &str| set_keys.get(section).and_then(|keys| keys.get(key)).is_some();
    let (https_is_set, rtsps_is_set) = (is_set("http", "tls_listen"), is_set("rtsp", "tls_listen"));
    let webrtc_is_set = is_set("webrtc", "udp_listen");
    let mut config =
        Config::deserialize(Value::Table(table)).map_err(|error| ConfigError::Invalid(error.message().to_owned()))?;
    if !https_is_set {
        config.http.tls_listen = config.http.tls_listen.beside(config.http.listen);
    }
    if !rtsps_is_set {
        config.rtsp.tls_listen = config.rtsp.tls_listen.beside(config.rtsp.listen);
    }
    if !webrtc_is_set {
        config.webrtc.udp_listen = config.webrtc.udp_listen.beside(config.http.listen);
    }
    memory::fill(&mut config, is_set);
    check(&config).map_err(ConfigError::Invalid)?;
    Ok(Loaded { config, file, warnings })
}

/// What `text`, the content of the file at `path`, says.
pub(super) fn read(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let file = |error: toml::de::Error| ConfigError::File { path: path.to_owned(), message: error.to_string() };
    // Read as the tree first: only so does a mistake come with its line.
    toml::from_str::<Config>(text).map_err(file)?;
    text.parse::<Table>().map_err(file)
}

enum Key {
    Known(String, String),
    Unknown,
    NotOurs,
}

/// `KINORA_SECTION_KEY` to section and key.
fn key_of(name: &str, known: &Table) -> Key {
    if let Some((_, path)) = SHORT.iter().find(|(short, _)| *short == name) {
        let (section, key) = path.split_once('.').expect("short names stand for section.key");
        return Key::Known(section.into(), key.into());
    }
    let lower = name.strip_prefix("KINORA_").unwrap_or_default().to_ascii_lowercase();
    for (section, keys) in known {
        let Some(key) = lower.strip_prefix(section.as_str()).and_then(|rest| rest.strip_prefix('_')) else { continue };
        let Value::Table(keys) = keys else { continue };
        return if keys.contains_key(key) { Key::Known(section.clone(), key.into()) } else { Key::Unknown };
    }
    Key::NotOurs
}

/// Puts a value that came as text, in the type its key has, and refuses it by the name it was given under.
fn set(
    table: &mut Table,
    known: &Table,
    source_name: &str,
    (section, key): (&str, &str),
    text: &str,
) -> Result<(), ConfigError> {
    let bad = |message: String| ConfigError::Value { source_name: source_name.to_owned(), message };
    let like = known.get(section).and_then(|keys| keys.get(key));
    let value = match like {
        Some(Value::Boolean(_)) => match text {
            "true" | "1" | "yes" | "on" => Value::Boolean(true),
            "false" | "0" | "no" | "off" => Value::Boolean(false),
            _ => return Err(bad(format!("{text:?} is not true or false"))),
        },
        Some(Value::Integer(_)) => {
            Value::Integer(text.parse().map_err(|_| bad(format!("{text:?} is not a whole number")))?)
        }
        Some(Value::Array(_)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
        }
        _ => Value::String(text.to_owned()),
    };
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    let keys = entry.as_table_mut().ok_or_else(|| bad(format!("{section} is not a section")))?;
    keys.insert(key.to_owned(), value);
    Config::deserialize(Value::Table(table.clone())).map_err(|error| bad(error.message().to_owned()))?;
    Ok(())
}

/// The defaults with every optional key present, so that its name is known.
fn every_key() -> Config {
    Config {
        server: Server { public_url: Some(String::new()), ..Server::default() },
        tls: Tls { cert: Some(PathBuf::new()), key: Some(PathBuf::new()), ..Tls::default() },
        rtsp: Rtsp {
            public_url: Some(String::new()),
            udp_ports: Some(PortRange { first: 2, last: 3 }),
            ..Rtsp::default()
        },
        ..Config::default()
    }
}

/// What types alone cannot say.
fn check(config: &Config) -> Result<(), String> {
    let Config { server, http, tls, storage, live, hls, limits, .. } = config;
    within("server.shutdown_timeout", server.shutdown_timeout, Span::secs(0), Span::secs(600))?;
    if let Some(url) = &server.public_url
        && !(url.starts_with("https://") || url.starts_with("http://"))
    {
        return Err(format!("server.public_url: {url:?} must start with https:// or http://"));
    }
    if let Some(url) = &config.rtsp.public_url
        && !(url.starts_with("rtsp://") || url.starts_with("rtsps://"))
    {
        return Err(format!("rtsp.public_url: {url:?} must start with rtsp:// or rtsps://"));
    }
    if tls.cert.is_some() != tls.key.is_some() {
        return Err("tls.cert and tls.key come together: set both or none".into());
    }
    if http.listen.0.is_none() && http.tls_listen.0.is_none() {
        return Err("http.listen and http.tls_listen are both off: nobody could reach this server".into());
    }
    within("storage.block_duration", storage.block_duration, Span::secs(1), Span::secs(3600))?;
    within("storage.block_bytes", storage.block_bytes, Size::mib(1), Size::mib(2048))?;
    within("storage.sync_tick", storage.sync_tick, Span::millis(1), Span::secs(1))?;
    within("storage.sweep_interval", storage.sweep_interval, Span::millis(100), Span::secs(3600))?;
    within("storage.soft_free_permille", storage.soft_free_permille, 0, 900)?;
    within("storage.hard_free_permille", storage.hard_free_permille, 0, storage.soft_free_permille)?;
    within("storage.min_retention", storage.min_retention, Span::secs(0), Span::secs(10 * 365 * 86_400))?;
    within("live.fragment_min", live.fragment_min, Span::millis(100), live.fragment_max)?;
    within("live.fragment_max", live.fragment_max, Span::millis(100), Span::secs(60))?;
    within("live.audio_fragment", live.audio_fragment, Span::millis(100), live.fragment_max)?;
    within("live.unpersisted_bytes", live.unpersisted_bytes, Size::mib(1), Size::mib(256))?;
    within("live.unpersisted_bytes_total", live.unpersisted_bytes_total, Size::mib(1), Size::mib(1 << 20))?;
    within("live.tail_bytes", live.tail_bytes, Size(0), Size::mib(1024))?;
    within("live.tail_bytes_total", live.tail_bytes_total, Size(0), Size::mib(1 << 20))?;
    within("live.idle_after", live.idle_after, Span::secs(1), Span::secs(3600))?;
    within("hls.live_window", hls.live_window, Span::secs(5), Span::secs(86_400))?;
    within("hls.segments_max", hls.segments_max, 10, 1_000_000)?;
    within("limits.connections", limits.connections, 10, 1_000_000)?;
    within("limits.unauthenticated_per_ip", limits.unauthenticated_per_ip, 1, limits.connections)?;
    within("limits.head_timeout", limits.head_timeout, Span::millis(100), Span::secs(60))?;
    within("limits.unauthenticated_lifetime", limits.unauthenticated_lifetime, Span::secs(1), Span::secs(30))?;
    within("limits.head_bytes", limits.head_bytes, Size::kib(8), Size::kib(64))?;
    within("limits.body_bytes", limits.body_bytes, Size::kib(1), Size::mib(1))?;
    within("limits.body_timeout", limits.body_timeout, Span::secs(1), Span::secs(60))?;
    within("limits.http2_streams", limits.http2_streams, 1, 250)?;
    within("limits.http2_resets", limits.http2_resets, 1, 250)?;
    within("limits.streams", limits.streams, 1, 1_000_000)?;
    within("limits.event_listeners", limits.event_listeners, 1, 100_000)?;
    check_streams(config)
}

fn check_streams(config: &Config) -> Result<(), String> {
    let mut names = std::collections::BTreeSet::new();
    for entry in &config.streams {
        let name = &entry.name;
        StreamName::new(name).map_err(|error| format!("[[stream]] name {name:?}: {error}"))?;
        if !names.insert(name) {
            return Err(format!("[[stream]] {name} is there twice"));
        }
        entry.settings().check().map_err(|message| format!("[[stream]] {name}: {message}"))?;
    }
    Ok(())
}

fn within<T: PartialOrd + std::fmt::Display>(key: &str, value: T, least: T, most: T) -> Result<(), String> {
    if value < least || value > most {
        return Err(format!("{key}: {value} is not within {least} and {most}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::units::Listen;

    #[test]
    fn a_stream_of_the_file_is_checked_as_one_of_the_api_is() {
        for (line, complaint) in [
            ("retention = { max_bytes = 0 }", "retention.max_bytes"),
            ("retention = { max_age = \"10ms\" }", "retention.max_age"),
            ("tags = { \"\" = \"x\" }", "tag"),
        ] {
            let error = load_text(&format!("[[stream]]\nname = \"gate\"\n{line}\n"), &[], &[]).expect_err(line);
            assert!(error.contains(complaint) && error.contains("gate"), "{error}");
        }
        load_text("[[stream]]\nname = \"gate\"\nretention = { max_bytes = 1, max_age = \"1s\" }\n", &[], &[])
            .expect("fine");
    }

    fn load_text(
        text: &str,
        environment: &[(&str, &str)],
        flags: &[(&'static str, &'static str, &str)],
    ) -> Result<Loaded, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let sources = Sources {
            file: Some(file.path().to_owned()),
            environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            flags: flags.iter().map(|(flag, key, value)| (*flag, *key, value.to_string())).collect(),
        };
        load(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn secure_doors_that_nobody_set_follow_the_plain_ones() {
        let load = |flags: &[(&'static str, &'static str, String)]| {
            load(&Sources { file: None, environment: Vec::new(), flags: flags.to_vec() }).expect("loads").config
        };
        let config = load(&[("--rtsp", "rtsp.listen", "127.0.0.1:0".into())]);
        assert_eq!(config.rtsp.tls_listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.http.tls_listen, Listen::any(8443));
        let config = load(&[("--http", "http.listen", "127.0.0.1:80".into()), ("--rtsp", "rtsp.listen", "off".into())]);
        assert_eq!(config.http.tls_listen.to_string(), "127.0.0.1:8443");
        assert_eq!(config.rtsp.tls_listen, Listen::any(8322));
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = "[http]\nlisten = ':1'\ntls_listen = ':2'\n[rtsp]\nlisten = ':3'\n";
        let loaded = load_text(
            file,
            &[("KINORA_HTTP_LISTEN", ":4"), ("KINORA_RTSP", ":5"), ("KINORA_LOG", "debug")],
            &[("--http", "http.listen", "127.0.0.1:6")],
        );
        let config = loaded.expect("good").config;
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:6");
        assert_eq!(config.http.tls_listen, Listen::any(2));
        assert_eq!(config.rtsp.listen, Listen::any(5));
        assert_eq!(config.rtsp.tls_listen, Listen::any(8322));
        assert_eq!(config.log.filter, "debug");
    }

    #[test]
    fn every_key_has_a_name_in_the_environment() {
        let known = Table::try_from(every_key()).expect("TOML");
        let mut count = 0;
        for (section, keys) in known.iter().filter(|(section, _)| *section != "stream") {
            for key in keys.as_table().expect("a section").keys() {
                let name = format!("KINORA_{}_{}", section.to_uppercase(), key.to_uppercase());
                let Key::Known(found_section, found_key) = key_of(&name, &known) else { panic!("{name} not found") };
                assert_eq!((found_section.as_str(), found_key.as_str()), (section.as_str(), key.as_str()));
                count += 1;
            }
        }
        assert!(count > 40, "{count} keys");
    }

    #[test]
    fn a_mistake_is_named_with_its_key_and_place() {
        let says = |text: &str, environment: &[(&str, &str)], words: &[&str]| {
            let message = load_text(text, environment, &[]).expect_err(text);
            for word in words {
                assert!(message.contains(word), "{message:?} does not say {word:?}");
            }
        };
        says("[http]\nlissten = ':1'\n", &[], &["line 2", "lissten", "listen"]);
        says("[storage]\nblock_duration = 'soon'\n", &[], &["soon", "duration", "line 2"]);
        says("", &[("KINORA_LIMITS_STREAMS", "many")], &["KINORA_LIMITS_STREAMS", "many"]);
        says("", &[("KINORA_HTTP", "8080")], &["KINORA_HTTP", "8080", ":8080"]);
        says("[tls]\ncert = 'a.pem'\n", &[], &["tls.key"]);
        says("[storage]\nhard_free_permille = 200\n", &[], &["storage.hard_free_permille", "200"]);
        says("[[stream]]\nname = 'a/b'\n", &[], &["a/b", "no '/'"]);
        says("[[stream]]\nname = 'a'\n[[stream]]\nname = 'a'\n", &[], &["twice"]);
        says("[http]\nlisten = 'off'\ntls_listen = ''\n", &[], &["nobody"]);
    }

    #[test]
    fn the_example_is_a_configuration() {
        let config = load_text(include_str!("../../kinora.example.toml"), &[], &[]).expect("good").config;
        assert_eq!(config.streams[0].name, "gate");
        let defaults = Config { streams: config.streams.clone(), ..Config::default() };
        assert_eq!(config, defaults, "the example shows the defaults");
    }

    #[test]
    fn an_unknown_variable_of_a_section_is_warned_about_and_foreign_ones_are_not() {
        let environment =
            [("KINORA_HTTP_LISTN", ":1"), ("KINORA_URL", "http://x"), ("KINORA_SERVICE_HOST", "10.0.0.1")];
        let loaded = load_text("", &environment, &[]).expect("good");
        assert_eq!(loaded.warnings, ["KINORA_HTTP_LISTN is no setting and is ignored"]);
    }

    #[test]
    fn what_print_config_prints_reads_back_the_same() {
        let text = "[[stream]]\nname = 'gate'\nretention = { max_age = '7d' }\n[stream.tags]\nsite = 'north'\n";
        let first = load_text(text, &[], &[]).expect("good").config;
        let printed = toml::to_string(&first).expect("TOML");
        assert_eq!(load_text(&printed, &[], &[]).expect("good").config, first);
        assert_eq!(first.streams[0].retention.max_age, Some(Span::secs(7 * 86_400)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,300}") {
            let _ = load_text(&text, &[("KINORA_STORAGE_BLOCK_BYTES", &text.replace('\0', ""))], &[]);
        }
    }
}

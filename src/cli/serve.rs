//! `kinora serve`.

use clap::Args;

use super::{CommandError, Common};

/// Flags of the server; everything else is in `kinora.toml` and the environment.
#[derive(Args)]
pub(super) struct ServeArgs {
    /// Where plain HTTP listens, such as :8080 or 127.0.0.1:0; off for nowhere.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Where HTTPS listens.
    #[arg(long, value_name = "ADDRESS")]
    https: Option<String>,
    /// Where RTSP listens.
    #[arg(long, value_name = "ADDRESS")]
    rtsp: Option<String>,
    /// Where RTSPS listens.
    #[arg(long, value_name = "ADDRESS")]
    rtsps: Option<String>,
    /// The UDP port of WebRTC.
    #[arg(long, value_name = "ADDRESS")]
    webrtc_udp: Option<String>,
    /// How the world reaches the server over HTTP.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Prints the configuration in force, as TOML (or JSON with --json), and ends.
    #[arg(long)]
    print_config: bool,
}

pub(super) fn run(common: &Common, args: ServeArgs) -> Result<(), CommandError> {
    let mut sources = common.sources();
    let flags = [
        ("--http", "http.listen", args.http),
        ("--https", "http.tls_listen", args.https),
        ("--rtsp", "rtsp.listen", args.rtsp),
        ("--rtsps", "rtsp.tls_listen", args.rtsps),
        ("--webrtc-udp", "webrtc.udp_listen", args.webrtc_udp),
        ("--public-url", "server.public_url", args.public_url),
    ];
    for (flag, key, value) in flags {
        if let Some(value) = value {
            sources.flags.push((flag, key, value));
        }
    }
    if args.print_config {
        return print_config(common, &sources);
    }
    Ok(crate::server::serve(&sources)?)
}

fn print_config(common: &Common, sources: &crate::config::load::Sources) -> Result<(), CommandError> {
    let loaded = crate::config::load::load(sources)?;
    for warning in &loaded.warnings {
        eprintln!("kinora: {warning}");
    }
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(format!("print configuration: {error}"));
    if common.json {
        println!("{}", serde_json::to_string_pretty(&loaded.config).map_err(|error| failed(&error))?);
        return Ok(());
    }
    match &loaded.file {
        Some(path) => println!("# from {} and what was set over it", path.display()),
        None => println!("# no kinora.toml was found"),
    }
    print!("{}", toml::to_string(&loaded.config).map_err(|error| failed(&error))?);
    Ok(())
}

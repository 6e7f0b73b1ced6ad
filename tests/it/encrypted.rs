//! HTTPS and RTSPS: real clients, and another certificate while they are connected.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clips::clip;
use crate::media_files::packets;
use crate::server::{Server, signal, wait_for};

/// Makes a self-signed certificate for 127.0.0.1.
fn make_certificate(cert: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("write the key");
    std::fs::write(cert, made.cert.pem()).expect("write the certificate");
}

/// The status and protocol of a GET that trusts `cert` alone; none when the server shows another one.
fn get(server: &Server, cert: &Path, flag: &str) -> Option<String> {
    let url = format!("https://{}/healthz", server.https);
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", flag, "--cacert"]).arg(cert).arg(url);
    let output = curl.output().expect("run curl");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn kinora_publish_pushes_over_rtsps_to_whom_it_trusts() {
    let server = Server::start();
    let secret = server.publish_secret();
    let file = clip("plain.mp4");
    let certificate = server.data().join("tls/cert.pem");
    let push = |stream: &str, options: &[&str]| {
        let url = format!("rtsps://camera:{secret}@{}/{stream}", server.rtsps);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.arg("publish").arg(&file).arg(url).args(options).stdin(Stdio::null());
        let output = command.output().expect("run kinora publish");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let certificate = certificate.to_str().expect("UTF-8");
    std::thread::scope(|scope| {
        for (stream, options) in [("named", vec!["--cacert", certificate]), ("any", vec!["--insecure"])] {
            let (push, server, file) = (&push, &server, &file);
            scope.spawn(move || {
                let (ok, said) = push(stream, &options);
                assert!(ok, "{stream}: {said}");
                server.wait_idle(stream);
                let block = server.blocks_of(stream).remove(0);
                let (file, block) = (file.to_str().expect("UTF-8"), block.to_str().expect("UTF-8"));
                assert_eq!(packets(block, 'v').len(), packets(file, 'v').len(), "{stream}: no frame was lost");
            });
        }
    });
    // A stranger's certificate: for one that nobody vouches for, nothing is sent, for ever or not.
    for options in [&[][..], &["--loop"]] {
        let (ok, said) = push("nobody", options);
        assert!(!ok && said.contains("--cacert") && said.contains("--insecure"), "{said}");
    }
    let (ok, said) = push("nobody", &["--insecure", "--udp"]);
    assert!(!ok && said.contains("--udp"), "{said}");
    assert_eq!(server.get("/v1/streams/nobody").status, 404);
    assert!(server.log().contains("rtsps+tcp"));
}

#[test]
fn another_certificate_is_taken_and_nobody_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (cert, key, old) = (path("cert.pem"), path("key.pem"), path("old.pem"));
    make_certificate(&cert, &key);
    std::fs::copy(&cert, &old).expect("copy");
    let config = format!("[tls]\ncert = '{}'\nkey = '{}'\n", cert.display(), key.display());
    let server = Server::start_with(&config);
    assert_eq!(get(&server, &old, "--http2").as_deref(), Some("200 2"));
    assert_eq!(get(&server, &old, "--http1.1").as_deref(), Some("200 1.1"));
    let secret = server.publish_secret();
    let url = format!("rtsps://camera:{secret}@{}/gate", server.rtsps);
    let file = clip("plain.mp4");
    let mut push = Command::new("ffmpeg");
    push.args(["-nostdin", "-v", "error", "-re", "-i"]).arg(&file).args(["-c", "copy", "-f", "rtsp"]);
    let mut push = push.args(["-rtsp_transport", "tcp", &url]).stdin(Stdio::null()).spawn().expect("run ffmpeg");
    wait_for("the camera", Duration::from_secs(10), || {
        let answer = server.get("/v1/streams/gate");
        (answer.status == 200 && answer.json()["state"] == "live").then_some(())
    });
    assert_eq!(server.json("/v1/streams/gate")["publisher"]["protocol"], "rtsps+tcp");

    make_certificate(&cert, &key);
    signal(server.pid(), "HUP");
    wait_for("the new certificate", Duration::from_secs(5), || get(&server, &cert, "--http2"));
    assert_eq!(get(&server, &old, "--http2"), None, "the old one is shown no more");
    // A bad one changes nothing.
    std::fs::write(&cert, "no certificate").expect("write");
    let reload = server.call("POST", "/v1/server/reload", None);
    assert_eq!(reload.status, 400, "{}", reload.text());
    assert!(reload.text().contains("cert.pem"), "{}", reload.text());

    assert!(push.wait().expect("ffmpeg ends").success(), "the camera was not dropped");
    server.wait_idle("gate");
    let block = server.blocks_of("gate").remove(0);
    let (file, block) = (file.to_str().expect("UTF-8"), block.to_str().expect("UTF-8"));
    assert_eq!(packets(block, 'v').len(), packets(file, 'v').len(), "no frame was lost");
    assert_eq!(server.blocks_of("gate").len(), 1);
}

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use media::ServerTime;
use store::clock::ManualClock;
use tempfile::TempDir;

use super::*;

const START: ServerTime = ServerTime::from_micros(1_790_000_000_000_000);
const SECOND: i64 = 1_000_000;

struct Fixture {
    folder: TempDir,
    clock: Arc<ManualClock>,
    access: Arc<Access>,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let access = open(&folder, &clock, None).unwrap();
        Fixture { folder, clock, access }
    }

    fn restart(self) -> Fixture {
        let Fixture { folder, clock, access } = self;
        drop(access);
        let access = open(&folder, &clock, None).unwrap();
        Fixture { folder, clock, access }
    }

    /// What one `Authorization` header gets on connection 1.
    fn rtsp(&self, header: &str, confidential: bool, stream: &str) -> Result<String, Refusal> {
        self.rtsp_on(1, header, confidential, stream)
    }

    fn rtsp_on(&self, connection: u64, header: &str, confidential: bool, stream: &str) -> Result<String, Refusal> {
        let principal = self.access.rtsp(header, "ANNOUNCE", connection, confidential, peer(), &name(stream))?;
        self.access.allow(&principal, Action::Publish, Some(&name(stream)))?;
        Ok(principal.id)
    }

    /// The nonce of a new challenge of connection 1.
    fn nonce(&self) -> String {
        let challenge = self.access.rtsp_challenges(1, false, false).remove(0);
        challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }
}

fn open(folder: &TempDir, clock: &Arc<ManualClock>, token: Option<&str>) -> Result<Arc<Access>, CatalogError> {
    let catalog = Catalog::open(&folder.path().join("control.db"))?;
    Access::open(catalog, clock.clone(), folder.path(), token)
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).unwrap()
}

fn peer() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

fn scope(streams: &str, actions: &[Action]) -> Scope {
    Scope { streams: streams.into(), actions: actions.to_vec(), ..Scope::everything() }
}

/// An answer as FFmpeg writes it (SHA-256 added).
fn answer(algorithm: &str, password: &str, nonce: &str, nc: &str, uri: &str) -> String {
    answer_as("cam", algorithm, password, nonce, nc, uri)
}

fn answer_as(user: &str, algorithm: &str, password: &str, nonce: &str, nc: &str, uri: &str) -> String {
    fn hex<D: sha2::Digest>(text: String) -> String {
        D::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
    let hash = if algorithm == "MD5" { hex::<md5::Md5> } else { hex::<sha2::Sha256> };
    let ha1 = hash(format!("{user}:kinora:{password}"));
    let ha2 = hash(format!("ANNOUNCE:{uri}"));
    let response = hash(format!("{ha1}:{nonce}:{nc}:0f1bef8c4264b5eb:auth:{ha2}"));
    format!(
        r#"Digest username="{user}", realm="kinora", nonce="{nonce}", uri="{uri}", response="{response}", algorithm="{algorithm}", qop="auth", cnonce="0f1bef8c4264b5eb", nc={nc}"#
    )
}

const URI: &str = "rtsp://127.0.0.1:8554/gate";

#[test]
fn admin_token_is_made_once_private_and_kept() {
    let fixture = Fixture::new();
    let path = fixture.folder.path().join("admin-token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    assert!(token.starts_with("kin_") && token.len() == 47, "{token}");
    let fixture = fixture.restart();
    let admin = fixture.access.token(&token, false, peer()).unwrap();
    assert_eq!(admin.id, "admin");
    assert_eq!(fixture.access.allow(&admin, Action::ManageAccess, None), Ok(()));
    assert_eq!(fixture.access.allow(&admin, Action::DeleteStream, Some(&name("gate"))), Ok(()));
    assert!(fixture.access.is_in_force(&admin));
    assert_eq!(fixture.access.token(&token, true, peer()), Err(Refusal::Forbidden), "never in a URL");
    let taken = open(&fixture.folder, &fixture.clock, Some("another-token-from-outside")).unwrap();
    assert!(taken.token(&token, false, peer()).is_ok(), "the file is honoured");
    assert_eq!(taken.token("another-token-from-outside", false, peer()), Err(Refusal::Wrong));
}

#[test]
fn admin_token_comes_from_outside_at_the_first_start() {
    let (folder, clock) = (TempDir::new().unwrap(), Arc::new(ManualClock::new(START)));
    for bad in ["short", "has a space in the middle", "new\nline-in-the-middle", ""] {
        let Err(refused) = open(&folder, &clock, Some(bad)) else { panic!("{bad:?} was taken") };
        assert!(refused.to_string().starts_with("KINORA_ADMIN_TOKEN: "), "{refused}");
    }
    let access = open(&folder, &clock, Some("an-admin-token-of-ours")).unwrap();
    assert_eq!(access.token("an-admin-token-of-ours", false, peer()).unwrap().id, "admin");
    assert_eq!(std::fs::read_to_string(folder.path().join("admin-token")).unwrap(), "an-admin-token-of-ours\n");
    drop(access);
    std::fs::write(folder.path().join("admin-token"), "").unwrap();
    assert!(open(&folder, &clock, None).is_err(), "an empty file lets nobody in");
}

#[test]
fn tokens_are_right_wrong_expired_revoked_or_foreign() {
    let fixture = Fixture::new();
    let expires = START.plus_micros(10 * SECOND);
    let (id, token) = fixture.access.mint_token("a viewer", scope("gate-*", &[Action::Play]), Some(expires)).unwrap();
    let check = |token: &str| fixture.access.token(token, false, peer());
    let principal = check(&token).unwrap();
    assert_eq!(principal.id, format!("token:{id}"));
    assert_eq!(check(""), Err(Refusal::Missing));
    assert_eq!(check(&token[..token.len() - 1]), Err(Refusal::Wrong));
    assert_eq!(check(&format!("{token}A")), Err(Refusal::Wrong));
    assert_eq!(check(&"a".repeat(1 << 20)), Err(Refusal::Wrong));
    let mut flipped = token.clone().into_bytes();
    flipped[20] ^= 1;
    assert_eq!(check(&String::from_utf8(flipped).unwrap()), Err(Refusal::Wrong));
    let other = Fixture::new();
    assert_eq!(other.access.token(&token, false, peer()), Err(Refusal::Wrong), "of another installation");

    let allow = |action, stream: Option<&str>| fixture.access.allow(&principal, action, stream.map(name).as_ref());
    assert_eq!(allow(Action::Play, Some("gate-2")), Ok(()));
    assert_eq!(allow(Action::Play, Some("yard")), Err(Refusal::Forbidden));
    assert_eq!(allow(Action::Publish, Some("gate-2")), Err(Refusal::Forbidden));
    assert_eq!(allow(Action::ManageAccess, None), Err(Refusal::Forbidden));

    fixture.clock.advance(10 * SECOND - 1);
    assert!(check(&token).is_ok() && fixture.access.is_in_force(&principal));
    fixture.clock.advance(1);
    assert_eq!(check(&token), Err(Refusal::Wrong), "expired");
    assert!(!fixture.access.is_in_force(&principal));
}

#[test]
fn revoked_is_revoked_at_once_and_after_a_restart() {
    let fixture = Fixture::new();
    let (id, token) = fixture.access.mint_token("", Scope::everything(), None).unwrap();
    let fixture = fixture.restart();
    let principal = fixture.access.token(&token, false, peer()).unwrap();
    fixture.access.revoke(&id).unwrap();
    assert_eq!(fixture.access.token(&token, false, peer()), Err(Refusal::Wrong));
    assert!(!fixture.access.is_in_force(&principal));
    assert!(matches!(fixture.access.revoke("nobody"), Err(CatalogError::NoCredential)));
    let fixture = fixture.restart();
    assert_eq!(fixture.access.token(&token, false, peer()), Err(Refusal::Wrong));
    assert_eq!(fixture.access.credentials().unwrap()[0].revoked, Some(START));
}

#[test]
fn only_playback_tokens_work_in_a_url_and_only_to_play() {
    let fixture = Fixture::new();
    let mint = |scope| fixture.access.mint_token("", scope, None).unwrap().1;
    let plain = mint(scope("*", &[Action::Play]));
    assert_eq!(fixture.access.token(&plain, true, peer()), Err(Refusal::Forbidden));
    let playback = |actions: &[Action]| Scope { playback: true, ..scope("gate", actions) };
    let play_only = fixture.access.token(&mint(playback(&[])), false, peer()).unwrap();
    assert_eq!(fixture.access.allow(&play_only, Action::Play, Some(&name("gate"))), Ok(()));
    assert_eq!(fixture.access.allow(&play_only, Action::DeleteStream, Some(&name("gate"))), Err(Refusal::Forbidden));
    let both = mint(playback(&[Action::Play, Action::Publish]));
    let in_query = fixture.access.token(&both, true, peer()).unwrap();
    assert_eq!(fixture.access.allow(&in_query, Action::Play, Some(&name("gate"))), Ok(()));
    assert_eq!(fixture.access.allow(&in_query, Action::Publish, Some(&name("gate"))), Err(Refusal::Forbidden));
    let publish = mint(playback(&[Action::Publish]));
    assert_eq!(fixture.access.token(&publish, true, peer()), Err(Refusal::Forbidden));
}

#[test]
fn token_for_some_streams_cannot_give_itself_more() {
    let fixture = Fixture::new();
    let (_, token) = fixture.access.mint_token("", scope("gate-*", &[]), None).unwrap();
    let principal = fixture.access.token(&token, false, peer()).unwrap();
    for action in [Action::ManageAccess, Action::ManageServer, Action::ReadServer] {
        assert_eq!(fixture.access.allow(&principal, action, None), Err(Refusal::Forbidden));
    }
    assert_eq!(fixture.access.allow(&principal, Action::ReadStream, None), Ok(()), "to list those it may see");
}

#[test]
fn media_range_is_what_the_token_says() {
    let fixture = Fixture::new();
    let range = |from, to| {
        let scope = Scope { media_from: from, media_to: to, ..Scope::everything() };
        let (_, token) = fixture.access.mint_token("", scope, None).unwrap();
        let principal = fixture.access.token(&token, false, peer()).unwrap();
        fixture.access.media_range(&principal).map(|(from, to)| (from.micros(), to.micros()))
    };
    assert_eq!(range(None, None), None);
    assert_eq!(range(Some(5), Some(9)), Some((5, 9)));
    assert_eq!(range(Some(5), None), Some((5, i64::MAX)));
    assert_eq!(range(None, Some(9)), Some((i64::MIN, 9)));
}

#[test]
fn what_makes_no_sense_is_not_minted() {
    let access = Fixture::new().access;
    let mint = |scope, expires| access.mint_token("", scope, expires);
    assert!(matches!(mint(scope("a/b", &[]), None), Err(MintError::Pattern)));
    assert!(matches!(access.mint_publish_secret("", "", None), Err(MintError::Pattern)));
    assert!(matches!(access.mint_publish_secret("a\nb", "gate", None), Err(MintError::Label)));
    assert!(matches!(mint(Scope::everything(), Some(START)), Err(MintError::Expired)));
    let backwards = Scope { media_from: Some(9), media_to: Some(9), ..Scope::everything() };
    assert!(matches!(mint(backwards, None), Err(MintError::MediaRange)));
    assert_eq!(access.credentials().unwrap(), []);
}

#[test]
fn nobody_mints_more_than_he_has() {
    let fixture = Fixture::new();
    let access = &fixture.access;
    let end = START.plus_micros(3_600 * SECOND);
    let maker = |scope: Scope, expires| {
        let (_, token) = access.mint_token("", scope, expires).expect("made");
        access.token(&token, false, peer()).expect("right")
    };
    let within = |maker: &Principal, scope: Scope, expires| access.within_maker(maker, &scope, expires).ok();
    let short = maker(scope("*", &[Action::ManageAccess, Action::Play]), Some(end));
    assert_eq!(within(&short, scope("gate", &[Action::Play]), None), Some(Some(end)), "it ends with its maker");
    let sooner = START.plus_micros(SECOND);
    assert_eq!(within(&short, scope("gate", &[Action::Play]), Some(sooner)), Some(Some(sooner)));
    assert_eq!(within(&short, scope("gate", &[Action::Play]), Some(end.plus_micros(1))), None);
    assert_eq!(within(&short, scope("gate", &[Action::DeleteStream]), None), None);
    assert_eq!(within(&short, scope("gate", &[]), None), None, "everything is more");
    assert_eq!(within(&short, Scope::of_publisher("gate"), None), None);
    let timed = maker(Scope { media_from: Some(10), media_to: Some(20), ..scope("*", &[]) }, None);
    let of_time =
        |from, to| within(&timed, Scope { media_from: from, media_to: to, ..scope("*", &[]) }, None).is_some();
    assert!(of_time(Some(10), Some(20)) && of_time(Some(12), Some(13)));
    assert!(
        !of_time(Some(9), Some(20))
            && !of_time(Some(10), Some(21))
            && !of_time(None, Some(20))
            && !of_time(Some(10), None)
    );
    let admin = Principal { id: ADMIN.into(), scope: Scope::everything(), expires: None };
    assert_eq!(within(&admin, Scope::everything(), None), Some(None));
}

#[test]
fn a_token_of_a_part_of_time_or_life_is_for_playback() {
    let made = |from, expires| {
        let scope = Scope { media_from: from, ..Scope::everything() }.with_default_actions(expires);
        (scope.actions, scope.playback)
    };
    let playback = (vec![Action::Play, Action::ReadStream], true);
    assert_eq!(made(Some(1), None), playback);
    assert_eq!(made(None, Some(START)), playback);
    assert_eq!(made(None, None), (vec![], false));
    let named = scope("*", &[Action::ManageAccess]).with_default_actions(Some(START));
    assert_eq!((named.actions, named.playback), (vec![Action::ManageAccess], false));
}

#[test]
fn credentials_of_all_kinds_are_listed_without_secrets_and_forgotten_after_a_month() {
    let fixture = Fixture::new();
    let (token, text) = fixture.access.mint_token("viewer", scope("*", &[Action::Play]), None).unwrap();
    fixture.clock.advance(1);
    let (secret, _) = fixture.access.mint_publish_secret("cam", "gate", None).unwrap();
    fixture.clock.advance(1);
    let (key, secret_key) = fixture.access.mint_access_key("sdk", Scope::everything(), None).unwrap();
    assert!(key.starts_with("AKIA") && key.len() == 20 && secret_key.len() == 40);
    fixture.clock.advance(SECOND);
    fixture.access.token(&text, false, peer()).unwrap();
    let list = fixture.access.credentials().unwrap();
    let ids: Vec<_> = list.iter().map(|info| (info.id.clone(), info.kind, info.label.as_str())).collect();
    let expected = [
        (token, CredentialKind::Token, "viewer"),
        (secret.clone(), CredentialKind::PublishSecret, "cam"),
        (key, CredentialKind::AccessKey, "sdk"),
    ];
    assert_eq!(ids, expected);
    assert_eq!(list[0].last_used, Some(START.plus_micros(SECOND + 2)));
    assert_eq!(list[1].last_used, None);
    assert_eq!(list[1].scope.actions, [Action::Publish, Action::CreateStream]);
    fixture.access.revoke(&secret).unwrap();
    fixture.clock.advance(31 * 86_400 * SECOND);
    assert_eq!(fixture.restart().access.credentials().unwrap().len(), 2);
}

#[test]
fn challenges_stand_in_the_order_that_ffmpeg_needs() {
    let access = Fixture::new().access;
    let kinds = |confidential, stale| {
        let challenges = access.rtsp_challenges(1, confidential, stale);
        let said_stale = challenges.iter().filter(|text| text.ends_with(", stale=true")).count();
        let kinds = challenges.iter().map(|text| match text.as_str() {
            text if text.starts_with("Basic realm=") => "basic",
            text if text.contains("algorithm=SHA-256,") => "sha",
            text if text.contains("algorithm=MD5,") => "md5",
            text => panic!("{text}"),
        });
        (kinds.collect::<Vec<_>>(), said_stale)
    };
    assert_eq!(kinds(false, false), (vec!["sha", "md5"], 0));
    assert_eq!(kinds(true, true), (vec!["sha", "basic", "md5"], 2));
    access.set_digest_md5(false);
    assert_eq!(kinds(false, false), (vec!["sha"], 0));
    assert_eq!(kinds(true, false), (vec!["sha", "basic"], 0));
}

#[test]
fn publish_secret_logs_in_by_digest_under_any_name() {
    let fixture = Fixture::new();
    let (id, secret) = fixture.access.mint_publish_secret("cam", "gate", None).unwrap();
    assert!(secret.len() == 26 && secret.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    let fixture = fixture.restart();
    for (n, algorithm) in ["SHA-256", "MD5"].into_iter().enumerate() {
        let nonce = fixture.nonce();
        let header = answer(algorithm, &secret, &nonce, "00000001", URI);
        assert_eq!(fixture.rtsp(&header, false, "gate"), Ok(format!("secret:{id}")), "{n}");
        assert_eq!(fixture.rtsp(&header, false, "gate"), Err(Refusal::Wrong), "replayed");
        let next = answer_as("", algorithm, &secret, &nonce, "00000002", "rtsp://127.0.0.1:8554/gate/streamid=0");
        assert!(fixture.rtsp(&next, false, "gate").is_ok());
    }
    let header = |password: &str, nonce: &str, uri: &str| answer("SHA-256", password, nonce, "00000001", uri);
    let check = |header: &str| fixture.rtsp(header, false, "gate");
    assert_eq!(check(""), Err(Refusal::Missing));
    assert_eq!(check(&header("wrong", &fixture.nonce(), URI)), Err(Refusal::Wrong));
    assert_eq!(check(&header(&secret, &fixture.nonce(), "rtsp://h/yard")), Err(Refusal::Wrong), "uri of another");
    assert_eq!(check(&header(&secret, "bm9uY2Utb2Ytb25l", URI)), Err(Refusal::Wrong), "a nonce of nobody");
    let good = header(&secret, &fixture.nonce(), URI);
    assert_eq!(fixture.rtsp_on(2, &good, false, "gate"), Err(Refusal::Wrong), "a nonce of another connection");
    let of_describe = fixture.access.rtsp(&good, "DESCRIBE", 1, false, peer(), &name("gate"));
    assert_eq!(of_describe, Err(Refusal::Wrong), "method of another request");
    assert_eq!(check(&good.replace("qop=\"auth\"", "qop=\"auth-int\"")), Err(Refusal::Wrong));
    assert_eq!(check(&good.replace("\"SHA-256\"", "\"MD5-sess\"")), Err(Refusal::Wrong));
    assert_eq!(check(&good.replace("realm=\"kinora\"", "realm=\"x\"")), Err(Refusal::Wrong));
    assert!(check(&good).is_ok());
}

#[test]
fn secret_of_another_stream_is_forbidden_and_a_revoked_one_wrong() {
    let fixture = Fixture::new();
    let (id, secret) = fixture.access.mint_publish_secret("cams", "gate-*", None).unwrap();
    let (_, short) =
        fixture.access.mint_publish_secret("guest", "gate-2", Some(START.plus_micros(5 * SECOND))).unwrap();
    let log_in = |secret: &str, stream: &str| {
        let uri = format!("rtsp://127.0.0.1/{stream}");
        fixture.rtsp(&answer("MD5", secret, &fixture.nonce(), "00000001", &uri), false, stream)
    };
    assert!(log_in(&secret, "gate-7").is_ok());
    assert_eq!(log_in(&secret, "yard"), Err(Refusal::Forbidden));
    assert!(log_in(&short, "gate-2").is_ok());
    fixture.clock.advance(5 * SECOND);
    assert_eq!(log_in(&short, "gate-2"), Err(Refusal::Wrong), "expired");
    fixture.access.revoke(&id).unwrap();
    assert_eq!(log_in(&secret, "gate-7"), Err(Refusal::Wrong), "revoked");
}

#[test]
fn old_nonce_is_stale_for_who_knows_the_secret_only() {
    let fixture = Fixture::new();
    let (_, secret) = fixture.access.mint_publish_secret("", "gate", None).unwrap();
    let nonce = fixture.nonce();
    fixture.clock.advance(61 * SECOND);
    let check = |password| fixture.rtsp(&answer("MD5", password, &nonce, "00000001", URI), false, "gate");
    assert_eq!(check(&secret), Err(Refusal::Stale));
    assert_eq!(check("wrong"), Err(Refusal::Wrong));
    assert!(fixture.rtsp(&answer("MD5", &secret, &fixture.nonce(), "00000001", URI), false, "gate").is_ok());
}

#[test]
fn md5_can_be_turned_off() {
    let fixture = Fixture::new();
    let (_, secret) = fixture.access.mint_publish_secret("", "gate", None).unwrap();
    fixture.access.set_digest_md5(false);
    let nonce = fixture.nonce();
    let md5 = answer("MD5", &secret, &nonce, "00000001", URI);
    assert_eq!(fixture.rtsp(&md5, false, "gate"), Err(Refusal::Wrong));
    let unnamed = md5.replace(r#" algorithm="MD5","#, "");
    assert_eq!(fixture.rtsp(&unnamed, false, "gate"), Err(Refusal::Wrong), "MD5 is what no algorithm means");
    assert!(fixture.rtsp(&answer("SHA-256", &secret, &nonce, "00000001", URI), false, "gate").is_ok());
}

#[test]
fn basic_takes_tokens_and_secrets_on_confidential_links_only() {
    let fixture = Fixture::new();
    let (_, secret) = fixture.access.mint_publish_secret("", "gate", None).unwrap();
    let (id, token) = fixture.access.mint_token("", scope("gate", &[Action::Publish]), None).unwrap();
    let (_, viewer) = fixture.access.mint_token("", scope("gate", &[Action::Play]), None).unwrap();
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("cam:{password}")));
    assert_eq!(fixture.rtsp(&basic(&token), true, "gate"), Ok(format!("token:{id}")));
    assert!(fixture.rtsp(&basic(&secret), true, "gate").is_ok());
    assert_eq!(fixture.rtsp(&basic(&viewer), true, "gate"), Err(Refusal::Forbidden));
    assert_eq!(fixture.rtsp(&basic(&token), true, "yard"), Err(Refusal::Forbidden));
    for wrong in ["", "wrong", &secret[1..], &"x".repeat(2_000)] {
        assert_eq!(fixture.rtsp(&basic(wrong), true, "gate"), Err(Refusal::Wrong));
    }
    assert_eq!(fixture.rtsp(&basic(&token), false, "gate"), Err(Refusal::Wrong));
    assert_eq!(fixture.rtsp(&basic(&secret), false, "gate"), Err(Refusal::Wrong));
}

#[test]
fn failures_are_throttled_per_name_and_source_and_lock_nobody_out() {
    let fixture = Fixture::new();
    let (_, token) = fixture.access.mint_token("", Scope::everything(), None).unwrap();
    let from = |address: &str| address.parse::<SocketAddr>().unwrap();
    let wrong = |address| fixture.access.token("kin_wrong", false, from(address)).unwrap_err();
    let outcomes: Vec<_> = (0..6).map(|_| wrong("192.0.2.7:80")).collect();
    assert_eq!(outcomes[..5], [Refusal::Wrong; 5]);
    assert_eq!(outcomes[5], Refusal::TooMany);
    assert_eq!(wrong("198.51.100.7:80"), Refusal::Wrong);
    assert!(fixture.access.token(&token, false, from("192.0.2.7:80")).is_ok());
    let rtsp = |stream: &str| {
        fixture.access.rtsp("Digest x", "ANNOUNCE", 1, false, from("192.0.2.7:80"), &name(stream)).unwrap_err()
    };
    assert_eq!(rtsp("gate"), Refusal::Wrong, "another name");
}

/// What FFmpeg 5.1.9 (`-f rtsp -rtsp_transport tcp`) and GStreamer 1.22.0 (`rtspclientsink`) answered to our three challenges
/// with the nonce `bm9uY2Utb2Ytb25l`, for `rtsp://cam:s3cret@127.0.0.1/gate`: recorded on Debian 12.
#[test]
fn recorded_answers_of_ffmpeg_and_gstreamer_hold() {
    const FFMPEG_ANNOUNCE: &str = r#"Digest username="cam", realm="kinora", nonce="bm9uY2Utb2Ytb25l", uri="rtsp://127.0.0.1:38839/gate", response="6b8e562243540fc495df291b68d29743", algorithm="MD5", qop="auth", cnonce="0f1bef8c4264b5eb", nc=00000001"#;
    const FFMPEG_SETUP: &str = r#"Digest username="cam", realm="kinora", nonce="bm9uY2Utb2Ytb25l", uri="rtsp://127.0.0.1:38839/gate/streamid=0", response="e351fead9b179648957ae02d1b3b19f1", algorithm="MD5", qop="auth", cnonce="8146db295046c7df", nc=00000002"#;
    const GSTREAMER_ANNOUNCE: &str = r#"Digest username="cam", realm="kinora", nonce="bm9uY2Utb2Ytb25l", uri="rtsp://127.0.0.1:42373/gate", response="3d06cdd54916243d673d7bf4e3027feb""#;
    const GSTREAMER_SETUP: &str = r#"Digest username="cam", realm="kinora", nonce="bm9uY2Utb2Ytb25l", uri="rtsp://127.0.0.1:42373/gate/stream=0", response="8a97101b7d9ea41d161133ada833b7f5""#;
    for (header, method) in [
        (FFMPEG_ANNOUNCE, "ANNOUNCE"),
        (FFMPEG_SETUP, "SETUP"),
        (GSTREAMER_ANNOUNCE, "ANNOUNCE"),
        (GSTREAMER_SETUP, "SETUP"),
    ] {
        let Some(Authorization::Digest(digest)) = header::parse(header) else { panic!("refused: {header}") };
        let Ok(answer) = Answer::check(&digest, method, &name("gate"), true) else { panic!("refused: {header}") };
        assert!(answer.is_of("s3cret"), "{header}");
        assert!(!answer.is_of("s3creT"));
        assert!(Answer::check(&digest, method, &name("gat"), true).is_err());
        assert!(Answer::check(&digest, method, &name("gate"), false).is_err());
        let Ok(other) = Answer::check(&digest, "TEARDOWN", &name("gate"), true) else { panic!("refused: {header}") };
        assert!(!other.is_of("s3cret"), "method is part of it");
    }
    let Some(Authorization::Basic { password }) = header::parse("Basic Y2FtOnMzY3JldA==") else { panic!("refused") };
    assert_eq!(password, "s3cret");
}

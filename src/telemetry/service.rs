//! The service manager that started us, if it wants to hear from us: systemd's notify protocol, `sd_notify(3)`.
//!
//! `READY=1` when every door is open, `STOPPING=1` at a stop, and `WATCHDOG=1` as often as `WatchdogSec=` asks for while all is well.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whoever started us and listens.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    /// Without a sign of life for so long it restarts us.
    patience: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` unless `WATCHDOG_PID` is another process. None when nobody listens.
    pub(crate) fn of_process() -> Option<ServiceManager> {
        let address = std::env::var_os("NOTIFY_SOCKET")?;
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(Duration::from_micros);
        match ServiceManager::at(&address, patience) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tracing::warn!(?address, %error, "the service manager does not hear us");
                None
            }
        }
    }

    fn at(address: &OsStr, patience: Option<Duration>) -> io::Result<ServiceManager> {
        let bytes = address.as_bytes();
        let address = match bytes.split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(ServiceManager { socket, patience })
    }

    /// Says it. One that does not read misses it: that is no reason to wait.
    pub(crate) fn say(&self, state: &str) {
        if let Err(error) = self.socket.send(state.as_bytes()) {
            tracing::debug!(state, %error, "the service manager did not hear us");
        }
    }

    /// Gives a sign of life as often as it was asked for, while `is_well`. On the runtime, so that a runtime that stands still gives none.
    pub(crate) async fn watch(&self, is_well: impl Fn() -> bool) {
        let Some(patience) = self.patience else { return };
        let mut told = true;
        loop {
            let well = is_well();
            if well {
                self.say("WATCHDOG=1");
            } else if told {
                tracing::error!("no sign of life goes to the service manager: see /healthz for what is stuck");
            }
            told = well;
            tokio::time::sleep(patience / 3).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn next(listening: &UnixDatagram) -> String {
        let mut text = [0; 100];
        let len = listening.recv(&mut text).unwrap();
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_service_manager_hears_us_while_all_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("kinora-test-{}", path.display());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ];
        for (listening, address) in sockets {
            let manager = ServiceManager::at(&address, Some(Duration::from_millis(3))).unwrap();
            manager.say("READY=1");
            assert_eq!(next(&listening), "READY=1");
            // Well for three looks, and then not: nothing comes any more.
            let (looks, looked_on) = (AtomicU32::new(0), Notify::new());
            let is_well = || {
                let look = looks.fetch_add(1, Ordering::SeqCst);
                if look == 5 {
                    looked_on.notify_one();
                }
                look < 3
            };
            tokio::select! {
                () = manager.watch(is_well) => panic!("it goes on looking"),
                () = looked_on.notified() => {}
            }
            let heard: Vec<String> = (0..3).map(|_| next(&listening)).collect();
            assert_eq!(heard, ["WATCHDOG=1"; 3]);
            listening.set_nonblocking(true).unwrap();
            assert!(listening.recv(&mut [0]).is_err());
        }
        assert!(ServiceManager::at(folder.path().join("nobody").as_os_str(), None).is_err());
    }
}

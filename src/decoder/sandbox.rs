//! What this process may still do once its codecs are loaded: compute, and talk to the server.

use std::collections::BTreeMap;
use std::error::Error;

use rustix::process::{
    Resource, Rlimit, Signal, nice, set_dumpable_behavior, set_parent_process_death_signal, setrlimit,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// How much less of the processor we get than the server beside us, which records.
const NICENESS: i32 = 10;
/// Address space, in bytes.
const ADDRESS_SPACE: u64 = 4 << 30;
/// Largest shared memory file that we may make.
const FILE_SIZE: u64 = 1 << 30;

/// Gives way to the server, and dies with it.
pub(crate) fn lower_priority() {
    // Failures leave us as we were, which is no danger.
    let _ = nice(NICENESS);
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

/// Takes away what is not needed any more, for good.
///
/// # Errors
/// When the kernel does not take it: then nothing of a stranger's is decoded here.
pub(crate) fn lock() -> Result<(), Box<dyn Error>> {
    let fixed = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::As, fixed(ADDRESS_SPACE))?;
    setrlimit(Resource::Fsize, fixed(FILE_SIZE))?;
    setrlimit(Resource::Core, fixed(0))?;
    setrlimit(Resource::Nofile, fixed(64))?;
    set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let rules = allowed().iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    // What is not allowed fails as if there were no right to it, so that a library can still say what it missed.
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(1), SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

/// System calls of computing, threads, memory, time, and of files that are open already.
fn allowed() -> Vec<i64> {
    let mut calls = vec![
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_fcntl,
        libc::SYS_ppoll,
        libc::SYS_eventfd2,
        // Of a pair both ends are ours: GStreamer's buffer pools wake themselves by it.
        libc::SYS_socketpair,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_setaffinity,
        libc::SYS_getcpu,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_tgkill,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_getrusage,
        libc::SYS_sysinfo,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_poll, libc::SYS_time, libc::SYS_gettimeofday]);
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a process of its own: what is taken away does not come back.
    #[test]
    fn a_locked_process_opens_nothing_and_starts_nothing() {
        if std::env::var_os("KINORA_DECODER_LOCKED").is_none() {
            let own = std::env::current_exe().expect("this program");
            let name = "sandbox::tests::a_locked_process_opens_nothing_and_starts_nothing";
            let run = std::process::Command::new(own)
                .args(["--exact", name, "--test-threads=1", "--nocapture"])
                .env("KINORA_DECODER_LOCKED", "1")
                .output()
                .expect("run it again");
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            return;
        }
        lock().expect("the kernel takes the filter");
        assert!(std::fs::File::open("/etc/hostname").is_err(), "files cannot be opened");
        assert!(std::fs::write("/tmp/kinora-decoder-was-here", "x").is_err(), "nor made");
        assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "no network");
        assert!(std::os::unix::net::UnixDatagram::unbound().is_err(), "nor to other programs here");
        assert!(std::process::Command::new("/bin/true").status().is_err(), "no other programs");
        assert!(std::thread::spawn(|| 6 * 7).join().is_ok_and(|answer| answer == 42), "threads work");
    }
}

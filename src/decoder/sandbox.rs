//! What this process may still do once its codecs are loaded: compute, and talk to the server.

use std::collections::BTreeMap;
use std::error::Error;

use rustix::process::{
    Resource, Rlimit, Signal, nice, set_dumpable_behavior, set_parent_process_death_signal, setrlimit,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

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
    // The newest filter of equal verdicts is asked for its error: this one comes first, and the other lets clone3 through.
    for program in [without_clone3()?, only_allowed(rustix::process::getpid().as_raw_nonzero().get())?] {
        seccompiler::apply_filter_all_threads(&program)?;
    }
    Ok(())
}

fn arch() -> Result<TargetArch, BackendError> {
    std::env::consts::ARCH.try_into()
}

/// Answers `clone3` as a kernel that does not know it: its flags lie in memory, where no filter can look, so that the C library
/// falls back to `clone`.
fn without_clone3() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, unknown, arch()?)?.try_into()
}

/// Lets through what is allowed, and of some calls only some forms. What is not allowed fails as if there were no right to it, so
/// that a library can still say what it missed.
fn only_allowed(own_process: i32) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = allowed().iter().map(|call| (*call, Vec::new())).collect();
    let when = |argument, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?])
    };
    let thread = libc::CLONE_THREAD as u64;
    // Threads, and no process: one would outlive us, and what memory and time we may take.
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // Signals to ourselves alone.
    rules.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, own_process as u64)?]);
    // Nothing that has the kernel send a signal to another process when a file is ready.
    let harmless = [libc::F_DUPFD, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
    let commands = harmless.iter().map(|command| when(1, SeccompCmpOp::Eq, *command as u64));
    rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
    SeccompFilter::new(rules, SeccompAction::Errno(1), SeccompAction::Allow, arch()?)?.try_into()
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

    /// What a filter says of a call: `None` lets it through, else the error. The few instructions that filters are made of.
    fn verdict(program: &BpfProgram, call: i64, arguments: [u64; 6]) -> Option<u32> {
        const LOAD: u16 = 0x20;
        const AND: u16 = 0x54;
        let arch = if cfg!(target_arch = "x86_64") { 0xc000_003e_u32 } else { 0xc000_00b7 };
        let data = |at: u32| match at {
            0 => call as u32,
            4 => arch,
            16.. => {
                let argument = arguments[(at as usize - 16) / 8];
                if (at - 16).is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => 0,
        };
        let (mut at, mut value) = (0, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |met: bool| usize::from(if met { step.jt } else { step.jf });
            match step.code {
                LOAD => value = data(step.k),
                AND => value &= step.k,
                0x05 => at += step.k as usize,
                0x15 => at += jump(value == step.k),
                0x25 => at += jump(value > step.k),
                0x35 => at += jump(value >= step.k),
                0x45 => at += jump(value & step.k != 0),
                0x06 if step.k == 0x7fff_0000 => return None,
                0x06 if step.k & 0xffff_0000 == 0x0005_0000 => return Some(step.k & 0xffff),
                code => panic!("an instruction that filters do not have: {code:#x} {:#x}", step.k),
            }
        }
    }

    #[test]
    fn no_process_is_made_and_no_other_is_sent_a_signal() {
        let own = 4_321;
        let program = only_allowed(own).expect("a filter");
        let check = |call: i64, arguments: &[u64], expected: Option<u32>| {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            assert_eq!(verdict(&program, call, all), expected, "call {call} with {arguments:x?}");
        };
        let no = Some(1);
        let thread =
            (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
        check(libc::SYS_clone, &[thread], None);
        check(libc::SYS_clone, &[libc::SIGCHLD as u64], no);
        check(libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64], no);
        assert_eq!(verdict(&without_clone3().expect("a filter"), libc::SYS_clone3, [0; 6]), Some(libc::ENOSYS as u32));
        assert_eq!(verdict(&without_clone3().expect("a filter"), libc::SYS_read, [0; 6]), None);
        check(libc::SYS_tgkill, &[own as u64, 9, 6], None);
        check(libc::SYS_tgkill, &[1, 1, 9], no);
        for call in [libc::SYS_kill, libc::SYS_tkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo] {
            check(call, &[1, 9], no);
        }
        for call in [
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_send_signal,
            libc::SYS_pidfd_getfd,
            libc::SYS_ptrace,
            libc::SYS_prctl,
        ] {
            check(call, &[1, 9], no);
        }
        check(libc::SYS_fcntl, &[0, libc::F_GETFL as u64], None);
        // The last two are F_SETSIG and F_SETOWN_EX.
        for command in [libc::F_SETOWN, libc::F_SETLEASE, libc::F_NOTIFY, 10, 15] {
            check(libc::SYS_fcntl, &[0, command as u64], no);
        }
        for call in [
            libc::SYS_execve,
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_ioctl,
            libc::SYS_setrlimit,
            libc::SYS_prlimit64,
        ] {
            check(call, &[], no);
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_fork, libc::SYS_vfork, libc::SYS_open] {
            check(call, &[], no);
        }
    }

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

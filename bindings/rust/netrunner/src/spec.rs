// SPDX-License-Identifier: Apache-2.0

//! What is to be run, and how: the part that both kinds of `Command` share.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{c_char, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use netrunner_sys as sys;

use crate::error::invalid;
use crate::process::{c_string, milliseconds, release_detached, spawn_error, Process, Stream};
use crate::stdio::Stdio;

#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) program: OsString,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Env,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) stdin: Option<Stdio>,
    pub(crate) stdout: Option<Stdio>,
    pub(crate) stderr: Option<Stdio>,
    pub(crate) fds: Vec<(OwnedFd, i32)>,
    pub(crate) pipe_size: u32,
    pub(crate) flags: u64,
    pub(crate) size: (u16, u16),
    pub(crate) umask: u32,
    pub(crate) nice: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) rlimits: Vec<sys::nr_rlimit>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) kill_timeout: Option<Duration>,
    pub(crate) output_limit: Option<u64>,
    pub(crate) cgroup_base: Option<PathBuf>,
    pub(crate) cgroup_path: Option<PathBuf>,
    pub(crate) cgroup_set: Vec<OsString>,
    pub(crate) shepherd: Option<PathBuf>,
    pub(crate) kill_on_drop: bool,
}

/// Changes of the environment, as in the standard library: `None` removes.
#[derive(Debug, Default)]
pub(crate) struct Env {
    pub(crate) clear: bool,
    pub(crate) changes: BTreeMap<OsString, Option<OsString>>,
}

impl Env {
    pub(crate) fn remove(&mut self, key: &OsStr) {
        if self.clear {
            self.changes.remove(key);
        } else {
            self.changes.insert(key.to_owned(), None);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.clear = true;
        self.changes.clear();
    }

    /// `None`: as this process has it.
    fn capture(&self) -> io::Result<Option<Vec<CString>>> {
        if !self.clear && self.changes.is_empty() {
            return Ok(None);
        }
        let mut all = BTreeMap::new();
        if !self.clear {
            all.extend(env::vars_os());
        }
        for (key, value) in &self.changes {
            if key.is_empty() || key.as_bytes().contains(&b'=') {
                return Err(invalid(format!("environment: bad name {key:?}")));
            }
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        let join = |(mut key, value): (OsString, OsString)| {
            key.push("=");
            key.push(value);
            c_string(key.into_vec())
        };
        all.into_iter().map(join).collect::<io::Result<_>>().map(Some)
    }
}

/// What `spawn` gives its caller.
pub(crate) struct Spawned {
    pub(crate) process: Arc<Process>,
    pub(crate) stdin: Option<Stream>,
    pub(crate) stdout: Option<Stream>,
    pub(crate) stderr: Option<Stream>,
}

/// What unset streams are. With a terminal they are the terminal.
#[derive(Clone, Copy)]
pub(crate) enum Unset {
    /// Those of this process.
    Inherit,
    /// Stdin is empty, the other two are piped.
    Capture,
    /// All three are piped.
    CaptureWithInput,
}

impl Spec {
    pub(crate) fn new(program: &OsStr) -> Self {
        Self {
            program: program.to_owned(),
            arg0: None,
            args: Vec::new(),
            env: Env::default(),
            cwd: None,
            stdin: None,
            stdout: None,
            stderr: None,
            fds: Vec::new(),
            pipe_size: 0,
            flags: 0,
            size: (0, 0),
            umask: 0,
            nice: 0,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            rlimits: Vec::new(),
            timeout: None,
            kill_timeout: None,
            output_limit: None,
            cgroup_base: None,
            cgroup_path: None,
            cgroup_set: Vec::new(),
            shepherd: None,
            kill_on_drop: true,
        }
    }

    pub(crate) fn flag(&mut self, flag: u64, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    fn stdio(&self, stream: i32, unset: Unset) -> sys::nr_stdio {
        let (set, otherwise) = match stream {
            sys::NR_STDIN => (&self.stdin, Stdio::null()),
            sys::NR_STDOUT => (&self.stdout, Stdio::piped()),
            _ => (&self.stderr, Stdio::piped()),
        };
        match (set, unset) {
            (Some(stdio), _) => stdio.lower(),
            (None, _) if self.flags & sys::NR_PTY != 0 => sys::nr_stdio::default(),
            (None, Unset::Inherit) => Stdio::inherit().lower(),
            (None, Unset::Capture) => otherwise.lower(),
            (None, Unset::CaptureWithInput) => Stdio::piped().lower(),
        }
    }

    pub(crate) fn spawn(&self, unset: Unset, flags: u64) -> io::Result<Spawned> {
        release_detached();

        if self.output_limit == Some(0) {
            return Err(invalid("output_limit: 0; use Stdio::null() for no output"));
        }
        let os = |text: &OsStr| c_string(text.as_bytes());
        let optional = |path: &Option<PathBuf>| path.as_ref().map(|p| os(p.as_ref())).transpose();

        let program = os(&self.program)?;
        let mut args = vec![os(self.arg0.as_ref().unwrap_or(&self.program))?];
        for arg in &self.args {
            args.push(os(arg)?);
        }
        let argv = pointers(&args);
        let env = self.env.capture()?;
        let envp = env.as_deref().map(pointers);
        let cwd = optional(&self.cwd)?;
        let cgroup_base = optional(&self.cgroup_base)?;
        let cgroup_path = optional(&self.cgroup_path)?;
        let shepherd = optional(&self.shepherd)?;
        let settings =
            self.cgroup_set.iter().map(|setting| os(setting)).collect::<io::Result<Vec<_>>>()?;
        let cgroup_set = (!settings.is_empty()).then(|| pointers(&settings));
        let fds: Vec<_> = self
            .fds
            .iter()
            .map(|(fd, target)| sys::nr_fdmap { fd: fd.as_raw_fd(), target: *target })
            .collect();

        let string = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |t| t.as_ptr());
        let list = |list: &Option<Vec<_>>| list.as_ref().map_or(ptr::null(), |l| l.as_ptr());
        let options = sys::nr_options {
            flags: self.flags | flags,
            argv: argv.as_ptr(),
            file: self.arg0.as_ref().map_or(ptr::null(), |_| program.as_ptr()),
            env: list(&envp),
            cwd: string(&cwd),
            in_: self.stdio(sys::NR_STDIN, unset),
            out: self.stdio(sys::NR_STDOUT, unset),
            err: self.stdio(sys::NR_STDERR, unset),
            fds: fds.as_ptr(),
            nfds: fds.len(),
            pipe_size: self.pipe_size,
            rows: self.size.0,
            cols: self.size.1,
            umask: self.umask,
            // Zero would be no limit at all.
            timeout_ms: self.timeout.map_or(0, |t| milliseconds(t).max(1)),
            kill_timeout_ms: match self.kill_timeout.map(milliseconds) {
                None => 0,
                Some(0) => sys::NR_KILL_NOW,
                Some(ms) => ms,
            },
            output_limit: self.output_limit.unwrap_or(0),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.as_ptr(),
            ngroups: self.groups.len(),
            rlimits: self.rlimits.as_ptr(),
            nrlimits: self.rlimits.len(),
            cgroup_base: string(&cgroup_base),
            cgroup_path: string(&cgroup_path),
            cgroup_set: list(&cgroup_set),
            nice: self.nice,
            shepherd: string(&shepherd),
            ..Default::default()
        };

        let mut why = [0; 512];
        // SAFETY: all that options points to outlives the call, lists of
        // strings end with NULL and the others have their lengths beside them;
        // why is writable for its length.
        let handle = unsafe { sys::nr_spawn(&options, why.as_mut_ptr(), why.len()) };
        if handle < 0 {
            // SAFETY: the library has terminated it.
            return Err(unsafe { spawn_error(handle, &why) });
        }
        let linger = self.flags & sys::NR_LINGER != 0;
        let process = Process::new(handle, self.kill_on_drop, linger);
        Ok(Spawned {
            stdin: Stream::open(&process, sys::NR_STDIN)?,
            stdout: Stream::open(&process, sys::NR_STDOUT)?,
            stderr: Stream::open(&process, sys::NR_STDERR)?,
            process,
        })
    }
}

/// With the NULL at the end. Valid as long as the strings are.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let all = strings.iter().map(|s| s.as_ptr());
    all.chain([ptr::null()]).collect()
}

/// The methods of both kinds of `Command` that say what is to be run.
macro_rules! builder {
    () => {
        /// A program to be run, by path, or by a name to be looked up in `PATH`,
        /// with no arguments. It inherits this process's environment, directory
        /// and streams; `output` captures the latter instead.
        pub fn new(program: impl AsRef<OsStr>) -> Self {
            Self { spec: Spec::new(program.as_ref()) }
        }

        /// Adds an argument. No shell is involved.
        pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
            self.spec.args.push(arg.as_ref().to_owned());
            self
        }

        /// Adds arguments.
        pub fn args<I, S>(&mut self, args: I) -> &mut Self
        where
            I: IntoIterator<Item = S>,
            S: AsRef<OsStr>,
        {
            for arg in args {
                self.arg(arg);
            }
            self
        }

        /// Sets what the program sees as its own name, `argv[0]`.
        pub fn arg0(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
            self.spec.arg0 = Some(name.as_ref().to_owned());
            self
        }

        /// Sets an environment variable. A changed `PATH` is also where the
        /// program is looked up.
        pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
            let value = Some(value.as_ref().to_owned());
            self.spec.env.changes.insert(key.as_ref().to_owned(), value);
            self
        }

        /// Sets environment variables.
        pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Self
        where
            I: IntoIterator<Item = (K, V)>,
            K: AsRef<OsStr>,
            V: AsRef<OsStr>,
        {
            for (key, value) in vars {
                self.env(key, value);
            }
            self
        }

        /// Removes an environment variable.
        pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
            self.spec.env.remove(key.as_ref());
            self
        }

        /// Removes all environment variables, those set before as well.
        pub fn env_clear(&mut self) -> &mut Self {
            self.spec.env.clear();
            self
        }

        /// Sets the program's working directory.
        pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
            self.spec.cwd = Some(dir.as_ref().to_owned());
            self
        }

        /// Sets what the standard input is connected to.
        pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
            self.spec.stdin = Some(stdio.into());
            self
        }

        /// Sets what the standard output is connected to.
        pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
            self.spec.stdout = Some(stdio.into());
            self
        }

        /// Sets what the standard error is connected to.
        pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
            self.spec.stderr = Some(stdio.into());
            self
        }

        /// Gives the program a further descriptor, under the number `target`,
        /// which is above 2. All others of this process are closed in it.
        pub fn fd(&mut self, target: i32, fd: impl Into<OwnedFd>) -> &mut Self {
            self.spec.fds.push((fd.into(), target));
            self
        }

        /// How many bytes a pipe holds. The default is the kernel's, 64 KiB.
        pub fn pipe_size(&mut self, bytes: u32) -> &mut Self {
            self.spec.pipe_size = bytes;
            self
        }

        /// Runs the program on a new terminal of this size, in a new session.
        /// Streams that are not set otherwise are the terminal's: the child's
        /// `stdin` types, its `stdout` reads the screen.
        pub fn pty(&mut self, rows: u16, cols: u16) -> &mut Self {
            self.spec.flag(sys::NR_PTY, true);
            self.spec.size = (rows, cols);
            self
        }

        /// Whether the terminal shows what is typed. The default is that it does.
        pub fn pty_echo(&mut self, on: bool) -> &mut Self {
            self.spec.flag(sys::NR_PTY_NOECHO, !on);
            self
        }

        /// Runs the program in a new session. Otherwise it is only in a new
        /// process group.
        pub fn setsid(&mut self, on: bool) -> &mut Self {
            self.spec.flag(sys::NR_SESSION, on);
            self
        }

        /// A time limit, from the spawn. When it is over the tree is ended as by
        /// `stop`: the status is that of its end, the
        /// [reason](crate::ExitStatus::reason) is
        /// [`Timeout`](crate::Reason::Timeout), and that is no error.
        pub fn timeout(&mut self, limit: Duration) -> &mut Self {
            self.spec.timeout = Some(limit);
            self
        }

        /// How long the tree has between SIGTERM and SIGKILL when it is stopped,
        /// runs out of time or is dropped. The default is 5 seconds; with zero
        /// SIGKILL comes at once.
        pub fn kill_timeout(&mut self, grace: Duration) -> &mut Self {
            self.spec.kill_timeout = Some(grace);
            self
        }

        /// How many bytes will be read, stdout and stderr together. If there
        /// are more, the tree is killed and reads fail with `EFBIG`; `output`
        /// returns what was read, and a status with the reason
        /// [`OutputLimit`](crate::Reason::OutputLimit).
        pub fn output_limit(&mut self, bytes: u64) -> &mut Self {
            self.spec.output_limit = Some(bytes);
            self
        }

        /// Whether dropping the child ends the program. **The default is that it
        /// does**: SIGTERM to its tree, the [grace](Self::kill_timeout), SIGKILL,
        /// without waiting. With `false` the program runs on, but no longer than
        /// this process; what it writes to a pipe then raises SIGPIPE in it.
        pub fn kill_on_drop(&mut self, on: bool) -> &mut Self {
            self.spec.kill_on_drop = on;
            self
        }

        /// Lets what the program leaves running outlive it, until the child is
        /// dropped. Otherwise it is killed when the program ends, before `wait`
        /// reports that.
        pub fn linger(&mut self, on: bool) -> &mut Self {
            self.spec.flag(sys::NR_LINGER, on);
            self
        }

        /// Gives the program a shepherd of its own, so that nothing that
        /// happens to another one concerns it.
        pub fn own_shepherd(&mut self, on: bool) -> &mut Self {
            self.spec.flag(sys::NR_OWN_SHEPHERD, on);
            self
        }

        /// Runs the tree in a new pid namespace, so that the kernel itself kills
        /// it.
        pub fn pid_namespace(&mut self, on: bool) -> &mut Self {
            self.spec.flag(sys::NR_PID_NAMESPACE, on);
            self
        }

        /// No setuid program in the tree gains any privilege.
        pub fn no_new_privs(&mut self, on: bool) -> &mut Self {
            self.spec.flag(sys::NR_NO_NEW_PRIVS, on);
            self
        }

        /// Sets the user. Needs privilege.
        pub fn uid(&mut self, id: u32) -> &mut Self {
            self.spec.flag(sys::NR_SET_UID, true);
            self.spec.uid = id;
            self
        }

        /// Sets the group. Needs privilege.
        pub fn gid(&mut self, id: u32) -> &mut Self {
            self.spec.flag(sys::NR_SET_GID, true);
            self.spec.gid = id;
            self
        }

        /// Sets the supplementary groups. Needs privilege.
        pub fn groups(&mut self, groups: &[u32]) -> &mut Self {
            self.spec.flag(sys::NR_SET_GROUPS, true);
            self.spec.groups = groups.to_vec();
            self
        }

        /// Sets the file mode creation mask.
        pub fn umask(&mut self, mask: u32) -> &mut Self {
            self.spec.flag(sys::NR_SET_UMASK, true);
            self.spec.umask = mask;
            self
        }

        /// Sets the nice value, -20 to 19.
        pub fn nice(&mut self, value: i32) -> &mut Self {
            self.spec.flag(sys::NR_SET_NICE, true);
            self.spec.nice = value;
            self
        }

        /// Sets a resource limit, such as `libc::RLIMIT_NOFILE`. `u64::MAX` is
        /// no limit.
        pub fn rlimit(&mut self, resource: u32, soft: u64, hard: u64) -> &mut Self {
            self.spec.rlimits.push(sys::nr_rlimit {
                // A number that does not fit is none of the kernel's either.
                resource: i32::try_from(resource).unwrap_or(i32::MAX),
                reserved: 0,
                soft,
                hard,
            });
            self
        }

        /// Makes a fresh cgroup (v2) for the program below this one, and removes
        /// it afterwards. The path is below the mount point.
        pub fn cgroup_base(&mut self, path: impl AsRef<Path>) -> &mut Self {
            self.spec.cgroup_base = Some(path.as_ref().to_owned());
            self
        }

        /// Uses exactly this cgroup, and kills all that is in it at the end.
        pub fn cgroup_path(&mut self, path: impl AsRef<Path>) -> &mut Self {
            self.spec.cgroup_path = Some(path.as_ref().to_owned());
            self
        }

        /// Writes a file of the cgroup before the program starts in it, such as
        /// `("memory.max", "268435456")`.
        pub fn cgroup_set(
            &mut self,
            file: impl AsRef<OsStr>,
            value: impl AsRef<OsStr>,
        ) -> &mut Self {
            let mut setting = file.as_ref().to_owned();
            setting.push("=");
            setting.push(value);
            self.spec.cgroup_set.push(setting);
            self
        }

        /// Sets the path of the `netrunner-shepherd` executable. Otherwise that
        /// is `$NETRUNNER_SHEPHERD`, or beside the library.
        pub fn shepherd(&mut self, path: impl AsRef<Path>) -> &mut Self {
            self.spec.shepherd = Some(path.as_ref().to_owned());
            self
        }

        /// The program.
        pub fn get_program(&self) -> &OsStr {
            &self.spec.program
        }

        /// The arguments, without the program's name.
        pub fn get_args(&self) -> impl Iterator<Item = &OsStr> {
            self.spec.args.iter().map(|arg| arg.as_os_str())
        }

        /// The changes of the environment; `None` is a variable to be removed.
        pub fn get_envs(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
            let changes = self.spec.env.changes.iter();
            changes.map(|(key, value)| (key.as_os_str(), value.as_deref()))
        }

        /// The working directory, if one is set.
        pub fn get_current_dir(&self) -> Option<&Path> {
            self.spec.cwd.as_deref()
        }
    };
}
pub(crate) use builder;

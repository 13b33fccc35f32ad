//! Signals as something to await: TERM, INT and HUP through a signalfd.

use std::io;

use async_io::Async;
use nix::sys::signal::{self, SigSet};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the service manager or an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: drain and exit.
    Terminate,
    /// SIGINT, Ctrl-C: the same.
    Interrupt,
    /// SIGHUP: reload what can be reloaded.
    HangUp,
}

/// The stream of signals. Child processes are not affected: std gives them an empty mask.
#[derive(Debug)]
pub struct Signals {
    fd: Async<SignalFd>,
}

impl Signals {
    /// Takes the signals from their default action. Call it first in `main`: only threads that
    /// start later inherit the mask, and a signal to any other thread would still end the process.
    ///
    /// # Errors
    /// What the kernel says when it gives no signalfd.
    pub fn block() -> io::Result<Signals> {
        let mask: SigSet = [signal::SIGTERM, signal::SIGINT, signal::SIGHUP]
            .into_iter()
            .collect();
        mask.thread_block()?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals {
            fd: Async::new(fd)?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        loop {
            let read = self.fd.read_with(|fd| match fd.read_signal()? {
                Some(info) => Ok(info.ssi_signo),
                None => Err(io::ErrorKind::WouldBlock.into()),
            });
            match read
                .await
                .map(|number| i32::try_from(number).map(signal::Signal::try_from))
            {
                Ok(Ok(Ok(signal::SIGTERM))) => return Signal::Terminate,
                Ok(Ok(Ok(signal::SIGINT))) => return Signal::Interrupt,
                Ok(Ok(Ok(signal::SIGHUP))) => return Signal::HangUp,
                Ok(_) => {}
                Err(error) => {
                    // Not seen in practice; then nobody could stop us but by SIGKILL.
                    log::error!("signals cannot be read, stopping: {error}");
                    return Signal::Terminate;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_to_this_thread_is_awaited_and_does_not_end_the_process() {
        // Each test has a thread of its own, so the signal is sent to this thread, which alone
        // blocks it.
        let mut signals = Signals::block().unwrap();
        crate::run(async move {
            signal::raise(signal::SIGHUP).unwrap();
            assert_eq!(signals.next().await, Signal::HangUp);
            signal::raise(signal::SIGTERM).unwrap();
            assert_eq!(signals.next().await, Signal::Terminate);
        });
    }
}

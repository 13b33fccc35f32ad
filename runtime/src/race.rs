//! Waiting for the first of two, or for all.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Which of two futures was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Either<L, R> {
    /// The left one.
    Left(L),
    /// The right one.
    Right(R),
}

/// Waits for the first of two; the other is dropped. The left one is polled first and wins when
/// both are ready, so put there what must not starve. Nest it for three.
pub fn race<L: Future, R: Future>(left: L, right: R) -> Race<L, R> {
    Race { left, right }
}

pin_project_lite::pin_project! {
    /// See [`race`]. As large as its two futures: an async function would hold each of them twice.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Race<L, R> {
        #[pin]
        left: L,
        #[pin]
        right: R,
    }
}

impl<L: Future, R: Future> Future for Race<L, R> {
    type Output = Either<L::Output, R::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.left.poll(context) {
            return Poll::Ready(Either::Left(output));
        }
        this.right.poll(context).map(Either::Right)
    }
}

/// Waits for all, side by side; outputs are in the order of the futures. Each wake-up polls all
/// that are left, so it is for a handful; spawn tasks for more.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<Joined<F>> = futures
        .into_iter()
        .map(|future| Joined::Waiting(Box::pin(future)))
        .collect();
    std::future::poll_fn(|context| {
        let mut all_ready = true;
        for joined in &mut all {
            if let Joined::Waiting(future) = joined {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *joined = Joined::Ready(output),
                    Poll::Pending => all_ready = false,
                }
            }
        }
        if all_ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    let output = |joined| match joined {
        Joined::Ready(output) => Some(output),
        Joined::Waiting(_) => None, // not left by now
    };
    all.into_iter().filter_map(output).collect()
}

enum Joined<F: Future> {
    Waiting(Pin<Box<F>>),
    Ready(F::Output),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[test]
    fn the_left_one_wins_when_both_are_ready() {
        crate::run(async {
            assert_eq!(race(ready(1), ready(2)).await, Either::Left(1));
            assert_eq!(race(pending::<()>(), ready(2)).await, Either::Right(2));
        });
    }

    #[test]
    fn waiting_for_one_of_two_costs_no_more_memory_than_the_two() {
        async fn large() -> u8 {
            let held = [1_u8; 1000];
            crate::yield_now().await;
            held.iter().sum()
        }
        let one = size_of_val(&large());
        assert!(size_of_val(&race(large(), large())) <= 2 * one);
        let timed = crate::timer::timeout(std::time::Duration::ZERO, large());
        assert!(size_of_val(&timed) <= one + 64);
    }

    #[test]
    fn join_all_keeps_the_order_of_its_futures() {
        crate::run(async {
            let outputs = join_all((0..5_u64).map(|n| async move {
                crate::timer::sleep(std::time::Duration::from_millis(5 - n)).await;
                n
            }))
            .await;
            assert_eq!(outputs, [0, 1, 2, 3, 4]);
        });
    }
}

//! Callers that have left, while that is being put on record: whoever comes with the same content
//! under another key at that moment waits, to find it there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::protocol::id::RecordKey;

/// How long somebody waits for that at the longest.
const WAIT_MAX: Duration = Duration::from_millis(800);

/// Contents of whose callers some have left just now.
#[derive(Debug, Default)]
pub struct Leavings(Mutex<HashMap<RecordKey, Weak<watch::Sender<()>>>>);

/// One caller's, until it is dropped.
#[derive(Debug)]
pub struct Leaving {
    content: RecordKey,
    // The last one to be dropped ends the waiting.
    going: Option<Arc<watch::Sender<()>>>,
    home: Arc<Leavings>,
}

impl Leavings {
    /// A caller has left, and its content is to lead to its operation.
    pub fn begin(self: &Arc<Self>, content: RecordKey) -> Leaving {
        let mut map = self.map();
        let going = map.get(&content).and_then(Weak::upgrade);
        let going = going.unwrap_or_else(|| Arc::new(watch::Sender::new(())));
        map.insert(content, Arc::downgrade(&going));
        Leaving { content, going: Some(going), home: Arc::clone(self) }
    }

    /// Waits until all who left are on record, but not for long.
    pub async fn ended(&self, content: RecordKey) {
        let going = self.map().get(&content).and_then(Weak::upgrade);
        let Some(mut going) = going.map(|going| going.subscribe()) else { return };
        // Nothing is ever sent: it ends with the last sender.
        let _ = timeout(WAIT_MAX, going.changed()).await;
    }

    fn map(&self) -> MutexGuard<'_, HashMap<RecordKey, Weak<watch::Sender<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut map = self.home.map();
        drop(self.going.take());
        if map.get(&self.content).is_some_and(|going| going.strong_count() == 0) {
            map.remove(&self.content);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_comes_meanwhile_waits_for_the_last_one_of_its_content_and_for_no_other() {
        let leavings = Arc::new(Leavings::default());
        let [mine, others] = [1, 2].map(|byte| RecordKey::new([byte; 16]));
        let (first, second) = (leavings.begin(mine), leavings.begin(mine));
        let mut waits = pin!(leavings.ended(mine));

        assert!(leavings.ended(others).now_or_never().is_some());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(second);

        assert!(waits.now_or_never().is_some());
        assert!(leavings.map().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long() {
        let leavings = Arc::new(Leavings::default());
        let content = RecordKey::new([1; 16]);
        let _stuck = leavings.begin(content);

        leavings.ended(content).await;
    }
}

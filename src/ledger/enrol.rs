//! Binding a process to its store at start, founding an empty one, accepting a changed one.

use super::Ledger;
use crate::entropy;
use crate::protocol::id::StoreId;
use crate::store::{Charter, StoreError};

/// Why a process may not work on a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// It has no charter, and may not be given one without being told.
    #[error(
        "the store has no charter: it is new, or was flushed. Run `semel store init` for a new one; \
         if it was in use, see what was charged meanwhile, then run `semel store accept`"
    )]
    NotFounded,
    /// The index secret differs.
    #[error(
        "the store was used with another index secret: the same key would be charged again. Give \
         every process the secret that the store was founded with"
    )]
    OtherSecret,
    /// The rules that make keys differ.
    #[error(
        "the store was used with other key rules (routes, key sources, scopes or upstream names): \
         a retry of an earlier payment might not be recognised. When no such retry is expected any \
         more, run `semel store accept` to take over the changed rules"
    )]
    OtherRules,
    /// It does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger {
    /// Binds this process to the store's charter; founds an empty store if `create` says so.
    ///
    /// # Errors
    /// [`EnrolError`], which says what to do.
    pub async fn enrol(&self, rules: [u8; 32], create: bool) -> Result<Charter, EnrolError> {
        let charter = match self.store.charter().await? {
            Some(charter) => charter,
            None if create => self.found(rules).await?,
            None => return Err(EnrolError::NotFounded),
        };
        if charter.secret_check != self.secrets.index.check() {
            return Err(EnrolError::OtherSecret);
        }
        if charter.rules != rules {
            return Err(EnrolError::OtherRules);
        }
        self.store.fence().bind(charter);
        Ok(charter)
    }

    /// Gives an empty store its identity.
    ///
    /// # Errors
    /// A [`StoreError`]; if somebody else was first, theirs is returned instead.
    pub async fn found(&self, rules: [u8; 32]) -> Result<Charter, EnrolError> {
        let charter = Charter {
            identity: StoreId::new(entropy::draw(&*self.entropy)),
            generation: 1,
            rules,
            secret_check: self.secrets.index.check(),
        };
        match self.store.found(&charter).await {
            Ok(()) => Ok(charter),
            Err(error @ StoreError::Refused(_)) => {
                self.store.charter().await?.ok_or(EnrolError::Store(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes over a store that was flushed or restored, or rules that have changed: raises the
    /// generation, so that processes with other rules claim no more, and the swap count.
    ///
    /// # Errors
    /// [`EnrolError::OtherSecret`] is not acceptable: keys made with another secret never match.
    pub async fn accept(&self, rules: [u8; 32]) -> Result<Charter, EnrolError> {
        let current = self.store.charter().await?;
        let check = self.secrets.index.check();
        if current.is_some_and(|current| current.secret_check != check) {
            return Err(EnrolError::OtherSecret);
        }
        let charter = Charter {
            identity: current
                .map_or_else(|| StoreId::new(entropy::draw(&*self.entropy)), |c| c.identity),
            generation: current.map_or(1, |current| current.generation + 1),
            rules,
            secret_check: check,
        };
        self.store.amend(current.as_ref(), &charter).await?;
        self.store.fence().bind(charter);
        Ok(charter)
    }
}

//! What comes from people: the configuration file, and documents that a command line reads from a node.

use std::path::PathBuf;

use serde_json::Value;
use tidegate::api::document::{AuditDocument, PlanDocument, ReplayDocument, TrashDocument, UndoDocument, WhyDocument};
use tidegate::config::Config;

/// A configuration is refused with a reason, or taken.
pub fn config(bytes: &[u8]) {
    if let Err(problem) = Config::load(Some((PathBuf::from("/c.toml"), bytes)), [], &[]) {
        assert!(!problem.why.is_empty(), "refused without a reason");
    }
}

/// A document is refused, or survives being written and read.
pub fn documents(bytes: &[u8]) {
    fn survives<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
        let Ok(document) = serde_json::from_slice::<T>(bytes) else { return };
        let once: Value = serde_json::to_value(&document).expect("documents are plain data");
        let again: T = serde_json::from_value(once.clone()).expect("a document that was written can be read");
        assert_eq!(serde_json::to_value(&again).ok(), Some(once), "a document that does not survive itself");
    }
    survives::<PlanDocument>(bytes);
    survives::<WhyDocument>(bytes);
    survives::<UndoDocument>(bytes);
    survives::<ReplayDocument>(bytes);
    survives::<AuditDocument>(bytes);
    survives::<TrashDocument>(bytes);
}

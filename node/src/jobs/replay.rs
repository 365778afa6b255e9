//! Making the plan of a past generation again.

use tidegate_protocol::codec;
use tidegate_protocol::file_sync::Grounds;

use crate::core::command::{Fault, FaultCode, Reply};
use crate::core::errands::ReplayWork;

/// Runs the law over what was kept, and compares. Takes as long as a resolve of so many rows.
pub(crate) fn replay(work: ReplayWork) -> Result<Reply, Fault> {
    let ReplayWork { inputs, plan, mut view, .. } = work;
    let grounds: Grounds = codec::decode_stored(&inputs).map_err(|error| {
        let message =
            format!("what generation {} was decided from cannot be read; nothing was changed", view.generation);
        Fault::new(FaultCode::Storage, message, error.to_string(), &["tidegate doctor"])
    })?;
    view.rows = grounds.rows();
    view.found = grounds.replay(&plan).map_err(|error| {
        let message = format!("the plan of generation {} was not made again; nothing was changed", view.generation);
        Fault::new(FaultCode::Internal, message, error.to_string(), &["tidegate history NAME"])
    })?;
    Ok(Reply::Replay(Box::new(view)))
}

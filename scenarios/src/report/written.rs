//! A run as the bytes of its files, whatever they are called.

use std::io;

use squall_reports::model;
use squall_reports::terminal::{self, Style};

use crate::run::Run;

/// See the head of this file.
pub(crate) struct Written {
    pub(crate) plan: String,
    pub(crate) history: Vec<u8>,
    pub(crate) model: Vec<u8>,
    /// The report as a terminal without colours shows it.
    pub(crate) text: String,
}

impl Written {
    /// # Errors
    /// As of [`History::write`](crate::history::History::write).
    pub(crate) fn new(run: &Run, model: &model::Run) -> io::Result<Self> {
        let mut history = Vec::new();
        run.history.write(&mut history)?;
        let style = Style {
            color: false,
            width: 120,
        };
        Ok(Self {
            plan: run.plan.to_string(),
            history,
            model: serde_json::to_vec(model)?,
            text: terminal::render(model, style),
        })
    }
}

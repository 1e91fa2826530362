//! A run as the bytes of its files, whatever they are called.

use std::io;

use squall_reports::terminal::{self, Style};
use squall_reports::{html, model};

use crate::run::Run;

/// See the head of this file.
pub(crate) struct Written {
    pub(crate) plan: String,
    pub(crate) history: Vec<u8>,
    pub(crate) model: Vec<u8>,
    /// The report as a browser shows it.
    pub(crate) page: String,
    /// The report as a terminal without colours shows it.
    pub(crate) text: String,
}

impl Written {
    /// Reports name the file that the history goes into.
    ///
    /// # Errors
    /// As of [`History::write`](crate::history::History::write).
    pub(crate) fn new(run: &Run, model: &model::Run, file: &str) -> io::Result<Self> {
        let model = model::Run {
            trace: Some(file.to_owned()),
            ..model.clone()
        };
        let mut history = Vec::new();
        run.history.write(&mut history)?;
        let style = Style {
            color: false,
            width: 120,
        };
        Ok(Self {
            plan: run.plan.to_string(),
            history,
            model: serde_json::to_vec(&model)?,
            page: html::render(&model),
            text: terminal::render(&model, style),
        })
    }
}

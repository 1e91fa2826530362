//! What a sweep leaves beside its findings: a page for a browser, a summary for a pull request, and XML for a continuous
//! integration server.

use std::path::{Path, PathBuf};

use squall_reports::html::{self, Beside};
use squall_reports::sweep::Sweep;
use squall_reports::{junit, markdown};

use super::Unusable;
use super::files::write_whole;

/// What is written.
pub(super) struct Summary<'a> {
    pub(super) sweep: &'a Sweep,
    pub(super) beside: Beside<'a>,
    /// What is said below the sweep, as Markdown.
    pub(super) more: &'a str,
}

impl Summary<'_> {
    /// Writes all of it, each file whole or not at all.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Unusable> {
        std::fs::create_dir_all(directory)
            .map_err(|error| Unusable(format!("{}: {error}", directory.display())))?;
        let text = markdown::render_sweep(self.sweep) + self.more;
        let xml = junit::render_sweep(self.sweep).map_err(|error| Unusable(error.to_string()))?;
        write_whole(&directory.join("summary.md"), text.as_bytes())?;
        write_whole(&directory.join("junit.xml"), xml.as_bytes())?;
        self.write_page(directory).map(drop)
    }

    /// Writes the page alone, and says where.
    pub(super) fn write_page(&self, directory: &Path) -> Result<PathBuf, Unusable> {
        let path = directory.join("summary.html");
        let page = html::render_sweep(self.sweep, &self.beside);
        write_whole(&path, page.as_bytes())?;
        Ok(path)
    }
}

//! Attaching to the stream of a project: creates it, or gives it the retention that is wanted, and changes nothing else.

use super::OpenError;
use super::config::Settings;
use super::envelope;
use crate::transport::{JetStream, ReadStreamError, Stream, StreamConfig, StreamError};

/// Peers that attach at once may each see the other's half-done work; after so many rounds something else is wrong.
const ROUNDS_MAX: usize = 8;

/// Makes sure that the stream is there, with this retention; gives it with its settings.
///
/// NATS has no conditional update of a stream: of two who open at once with other retentions, either may win, and what a
/// third one changes between the look and the update is changed back.
pub(super) async fn attach<C: JetStream>(
    connection: &C,
    settings: &Settings,
) -> Result<(C::Stream, StreamConfig), OpenError> {
    let stream = connection.stream(&envelope::stream(&settings.project))?;
    let mut timed_out = StreamError::TimedOut;
    for _ in 0..ROUNDS_MAX {
        match stream.info().await {
            Ok(info) => {
                let mut config = info.config;
                let subjects = envelope::all(&settings.project);
                if !config.subjects.contains(&subjects) {
                    let found = config.subjects.join(", ");
                    return Err(OpenError::Foreign { found });
                }
                if !settings.retain(&mut config) {
                    return Ok((stream, config));
                }
                match connection.update_stream(&config).await {
                    Ok(info) => return Ok((stream, info.config)),
                    Err(error) => timed_out = again(error)?,
                }
            }
            Err(ReadStreamError::NoStream) => {
                match connection.create_stream(&settings.stream()).await {
                    Ok(_) => {}
                    Err(error) => timed_out = again(error)?,
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(timed_out.into())
}

/// What the next look may show to be well: somebody else was faster, or it was done and nobody said so.
fn again(error: StreamError) -> Result<StreamError, StreamError> {
    match error {
        StreamError::Exists | StreamError::NotFound | StreamError::TimedOut => Ok(error),
        error => Err(error),
    }
}

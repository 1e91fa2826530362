//! What a person sees of a run or a sweep, face by face, as snapshots; and what must hold for any run, however odd.

mod any_run;
mod contrast;
mod html;
mod junit;
mod lock;
mod markdown;
mod recorded;
mod samples;
mod schema;
mod spacetime;
mod terminal;
mod trace;

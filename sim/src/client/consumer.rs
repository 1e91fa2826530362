//! Pull consumers of the simulated client. The simulated server has none yet, and says so: JetStream does not answer.

use std::convert::Infallible;

use squall_core::transport::{
    Ack, AckError, ConsumerError, ConsumerInfo, Delivered, PublishError, Pull, PullConsumer,
    PullError, Pulled, names,
};

use super::stream::SimStream;

/// A pull consumer of a simulated server. There is no such value.
#[derive(Clone, Debug)]
pub struct SimConsumer(Infallible);

impl SimConsumer {
    pub(super) fn new(_stream: &SimStream, name: &str) -> Result<Self, ConsumerError> {
        match names::is_bucket(name) {
            true => Err(ConsumerError::Unavailable),
            false => Err(ConsumerError::InvalidName(name.to_owned())),
        }
    }
}

impl PullConsumer for SimConsumer {
    fn name(&self) -> &str {
        match self.0 {}
    }

    async fn info(&self) -> Result<ConsumerInfo, ConsumerError> {
        match self.0 {}
    }

    async fn pull(&self, _wish: Pull) -> Result<Pulled, PullError> {
        match self.0 {}
    }

    async fn ack(&self, _delivered: &Delivered, _ack: Ack) -> Result<(), PublishError> {
        match self.0 {}
    }

    async fn ack_confirmed(&self, _delivered: &Delivered, _ack: Ack) -> Result<(), AckError> {
        match self.0 {}
    }
}

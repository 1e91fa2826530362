//! Reads what plans say of an agent that chats.

use std::num::NonZeroU32;

use serde::Deserialize;
use toml::Spanned;

use super::{PlanError, Reader};
use crate::plan::{ChatPlan, Role};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChat {
    thread: Spanned<String>,
    buffer: Option<NonZeroU32>,
    retention: Option<Spanned<String>>,
    dwells: Option<Spanned<String>>,
}

impl Reader<'_> {
    /// How the agent of this name chats.
    pub(super) fn chat(
        &self,
        raw: &Spanned<RawChat>,
        name: &str,
        role: Role,
    ) -> Result<ChatPlan, PlanError> {
        if role != Role::Chat {
            let reason = format!("an agent of role {:?} does not chat", role.name());
            return self.wrong(raw.span(), reason);
        }
        let RawChat {
            thread,
            buffer,
            retention,
            dwells,
        } = raw.get_ref();
        if thread.get_ref().is_empty() {
            return self.wrong(thread.span(), "a thread has a name");
        }
        let mut chat = ChatPlan {
            thread: thread.get_ref().clone(),
            ..ChatPlan::default()
        };
        if let Some(buffer) = buffer {
            chat.buffer = *buffer;
        }
        if let Some(retention) = retention {
            chat.retention = self.time("retention", retention)?;
        }
        if let Some(dwells) = dwells {
            chat.dwells = self.time("dwells", dwells)?;
        }
        match chat.config(name).check() {
            Ok(()) => Ok(chat),
            Err(error) => self.wrong(raw.span(), error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse::parse;

    #[test]
    fn only_who_chats_says_how() {
        let with = |role: &str, chat: &str| {
            let text = format!(
                "scenario = \"chat/calm\"\nseed = 1\nduration = \"9s\"\nsettle = \"9s\"\n\
                 [[agent]]\nname = \"alice\"\nrole = {role:?}\ninterval = \"1s\"\nchat = {chat}\n"
            );
            parse(&text).map_err(|error| error.to_string())
        };
        for how in [
            "{ thread = \"general\" }",
            "{ thread = \"a\\tb\\u200b\\\"\", buffer = 3, retention = \"4s\", dwells = \"1s\" }",
        ] {
            let plan = with("chat", how).expect("it is a plan");
            assert_eq!(parse(&plan.to_string()), Ok(plan));
        }
        let said = |role, chat| with(role, chat).expect_err("it is no plan");
        let how = "{ thread = \"general\" }";
        assert_eq!(said("lock", how), "an agent of role \"lock\" does not chat");
        assert_eq!(said("chat", "{ thread = \"\" }"), "a thread has a name");
        let short = "{ thread = \"general\", retention = \"99ms\" }";
        assert!(said("chat", short).starts_with("chat.Config: max_retention_age"));
    }
}

//! Where a user may publish and subscribe, judged as the server does.
//!
//! A subscription is matched against the lists as if its subject were a plain one: `ok.*` is allowed by `ok.*` and
//! `ok.>`. One that is allowed as a whole, though a part of it is denied, does not hear that part.

use std::sync::Arc;

use squall_core::jwt::{Permission, User};

use super::subject::Filter;

/// A list entry: a subject, and the queue groups it is about, if it is not about plain subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    subject: Filter,
    queue: Option<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules(Vec<Rule>);

/// What a user may do; a user without any list has none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    publish: [Rules; 2],
    subscribe: [Rules; 2],
}

/// What is denied of a subscription that is allowed as a whole.
pub(super) type Denied = Arc<Permissions>;

impl Permissions {
    /// `None` where everything is allowed.
    pub(super) fn of(user: &User) -> Option<Arc<Self>> {
        let lists =
            |permission: &Permission| [Rules::of(&permission.allow), Rules::of(&permission.deny)];
        let permissions = Self {
            publish: lists(&user.publish),
            subscribe: lists(&user.subscribe),
        };
        let all = permissions.publish.iter().chain(&permissions.subscribe);
        let is_free = all.map(|rules| rules.0.len()).sum::<usize>() == 0;
        (!is_free).then(|| Arc::new(permissions))
    }

    pub(super) fn may_publish(&self, subject: &str) -> bool {
        let [allow, deny] = &self.publish;
        (allow.0.is_empty() || allow.names(subject, None)) && !deny.names(subject, None)
    }

    pub(super) fn may_subscribe(&self, subject: &str, queue: Option<&str>) -> bool {
        let [allow, deny] = &self.subscribe;
        (allow.0.is_empty() || allow.names(subject, queue)) && !deny.names(subject, queue)
    }

    /// True where a subscription to this subject may be allowed and still not hear everything.
    pub(super) fn denies_part_of(&self, subject: &str) -> bool {
        let is_wild = subject.split('.').any(|token| token == "*" || token == ">");
        is_wild && !self.subscribe[1].0.is_empty()
    }

    /// True for a message that a subscription to more than its subject does not hear.
    pub(super) fn denies(&self, subject: &str) -> bool {
        self.subscribe[1].names(subject, None)
    }
}

impl Rules {
    fn of(list: &[String]) -> Self {
        let rule = |entry: &String| {
            let mut words = entry.split_whitespace();
            Some(Rule {
                subject: Filter::parse(words.next()?)?,
                queue: words.next().and_then(Filter::parse),
            })
        };
        Self(list.iter().filter_map(rule).collect())
    }

    /// Whether the list is about this. Where it names queue groups for the subject, they alone decide for a member of one.
    fn names(&self, subject: &str, queue: Option<&str>) -> bool {
        let matching = || self.0.iter().filter(|rule| rule.subject.matches(subject));
        let mut groups = matching().filter_map(|rule| rule.queue.as_ref()).peekable();
        match queue {
            Some(queue) if groups.peek().is_some() => groups.any(|group| group.matches(queue)),
            _ => matching().any(|rule| rule.queue.is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(allow: &[&str], deny: &[&str]) -> Permission {
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect();
        Permission {
            allow: owned(allow),
            deny: owned(deny),
        }
    }

    fn user(allow: &[&str], deny: &[&str]) -> Arc<Permissions> {
        let user = User {
            publish: list(allow, deny),
            subscribe: list(allow, deny),
            ..User::default()
        };
        Permissions::of(&user).expect("there are lists")
    }

    #[test]
    fn deny_is_stronger_and_nothing_named_is_everything() {
        assert_eq!(Permissions::of(&User::default()), None);
        let user = user(&["ok.>"], &["ok.secret"]);
        assert!(user.may_publish("ok.a") && !user.may_publish("no") && !user.may_publish("ok"));
        assert!(!user.may_publish("ok.secret") && !user.may_subscribe("ok.secret", None));
        assert!(user.may_subscribe("ok.*", None) && user.denies_part_of("ok.*"));
        assert!(user.denies("ok.secret") && !user.denies("ok.a"));
        let deny_only = self::user(&[], &["no.>"]);
        assert!(deny_only.may_publish("any") && !deny_only.may_publish("no.x"));
    }

    #[test]
    fn an_entry_with_a_queue_is_for_its_members() {
        let user = user(&["q workers", "p"], &[]);
        assert!(user.may_subscribe("q", Some("workers")) && !user.may_subscribe("q", None));
        assert!(!user.may_subscribe("q", Some("others")));
        assert!(user.may_subscribe("p", Some("others")));
    }
}

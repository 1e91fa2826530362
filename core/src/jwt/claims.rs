//! What tokens say: the claims of operators, accounts and users, in the names and numbers of jwt v2.
//!
//! Times are whole seconds on the wire, and servers compare whole seconds; here they are [`UnixTime`]s, cut to seconds
//! when written.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::time::UnixTime;

/// What one token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The token's own name (`jti`); servers do not look at it.
    #[serde(rename = "jti", default)]
    pub id: String,
    /// When it was issued; a revocation is for tokens issued before it.
    #[serde(rename = "iat", with = "seconds")]
    pub issued: UnixTime,
    /// Who signed it.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// Whose it is.
    #[serde(rename = "sub")]
    pub subject: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Valid to the end of this second.
    #[serde(rename = "exp", with = "seconds_if_any")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixTime>,
    /// Not valid before this second.
    #[serde(rename = "nbf", with = "seconds_if_any")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<UnixTime>,
    /// What is granted.
    pub nats: Granted,
}

/// A grant in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    version: u32,
    #[serde(flatten)]
    grant: Grant,
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Grant {
    /// To sign accounts.
    Operator(Operator),
    /// To sign users, and what all of them may use together.
    Account(Account),
    /// To connect.
    User(User),
}

/// What an operator's token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operator {
    /// Other keys that sign accounts.
    pub signing_keys: BTreeSet<String>,
    /// The account that `$SYS` belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_account: String,
}

/// What an account's token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Without limits a server allows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Other keys that sign users.
    pub signing_keys: BTreeSet<String>,
    /// Users, or `*` for all, whose tokens issued up to that second are void; where there are any, a token that was issued
    /// at no time (0) is void too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub revocations: BTreeMap<String, i64>,
}

/// What an account may use; -1 is without limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of jwt v2")]
pub struct Limits {
    pub subs: i64,
    pub data: i64,
    pub payload: i64,
    pub imports: i64,
    pub exports: i64,
    pub wildcards: bool,
    pub conn: i64,
    pub leaf: i64,
    pub mem_storage: i64,
    pub disk_storage: i64,
    pub streams: i64,
    pub consumer: i64,
}

impl Limits {
    /// Everything, JetStream too, without limit.
    pub const NONE: Self = Self {
        subs: -1,
        data: -1,
        payload: -1,
        imports: -1,
        exports: -1,
        wildcards: true,
        conn: -1,
        leaf: -1,
        mem_storage: -1,
        disk_storage: -1,
        streams: -1,
        consumer: -1,
    };
}

/// What a token that leaves a field out means.
impl Default for Limits {
    fn default() -> Self {
        Self {
            subs: 0,
            data: 0,
            payload: 0,
            imports: 0,
            exports: 0,
            wildcards: false,
            conn: 0,
            leaf: 0,
            mem_storage: 0,
            disk_storage: 0,
            streams: 0,
            consumer: 0,
        }
    }
}

/// What a user's token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names of the limits are those of jwt v2")]
pub struct User {
    /// Where it may publish.
    #[serde(rename = "pub")]
    pub publish: Permission,
    /// Where it may subscribe. An entry `subject queue` is for queue groups.
    #[serde(rename = "sub")]
    pub subscribe: Permission,
    pub subs: i64,
    pub data: i64,
    pub payload: i64,
    /// Its account, where a signing key of the account issued it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_account: String,
}

impl Default for User {
    fn default() -> Self {
        Self {
            publish: Permission::default(),
            subscribe: Permission::default(),
            subs: -1,
            data: -1,
            payload: -1,
            issuer_account: String::new(),
        }
    }
}

/// Subjects that are allowed (all, where none is named) and denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permission {
    /// Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Stronger than `allow`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Claims {
    /// The claims of an operator, without end.
    pub fn operator(key: &str, issued: UnixTime, operator: Operator) -> Self {
        Self::new(key, issued, Grant::Operator(operator))
    }

    /// The claims of an account, without end.
    pub fn account(key: &str, issued: UnixTime, account: Account) -> Self {
        Self::new(key, issued, Grant::Account(account))
    }

    /// The claims of a user, without end.
    pub fn user(key: &str, issued: UnixTime, user: User) -> Self {
        Self::new(key, issued, Grant::User(user))
    }

    /// Lets the user publish and subscribe to these subjects alone, but not to those; no effect on others' claims than a user's.
    pub fn restrict(&mut self, allow: &[&str], deny: &[&str]) {
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect();
        if let Grant::User(user) = &mut self.nats.grant {
            user.publish = Permission {
                allow: owned(allow),
                deny: owned(deny),
            };
            user.subscribe = user.publish.clone();
        }
    }

    /// Lifts what was said of publishing; no effect on others' claims than a user's.
    pub fn let_publish_anywhere(&mut self) {
        if let Grant::User(user) = &mut self.nats.grant {
            user.publish = Permission::default();
        }
    }

    /// Says that a signing key of this account signs; no effect on others' claims than a user's.
    pub fn vouch_for(&mut self, account: &str) {
        if let Grant::User(user) = &mut self.nats.grant {
            account.clone_into(&mut user.issuer_account);
        }
    }

    fn new(key: &str, issued: UnixTime, grant: Grant) -> Self {
        Self {
            id: String::new(),
            issued,
            issuer: String::new(),
            subject: key.to_owned(),
            name: String::new(),
            expires: None,
            not_before: None,
            nats: Granted { version: 2, grant },
        }
    }

    /// What it grants.
    pub const fn grant(&self) -> &Grant {
        &self.nats.grant
    }

    /// What it grants to a user, if it is a user's.
    pub const fn as_user(&self) -> Option<&User> {
        match self.grant() {
            Grant::User(user) => Some(user),
            _ => None,
        }
    }

    /// What it grants to an account, if it is an account's.
    pub const fn as_account(&self) -> Option<&Account> {
        match self.grant() {
            Grant::Account(account) => Some(account),
            _ => None,
        }
    }

    /// What it grants to an operator, if it is an operator's.
    pub const fn as_operator(&self) -> Option<&Operator> {
        match self.grant() {
            Grant::Operator(operator) => Some(operator),
            _ => None,
        }
    }

    /// What is wrong with its time, for somebody whose wall clock reads `now`.
    pub fn untimely(&self, now: UnixTime) -> Option<Untimely> {
        let now = now.as_secs();
        if self.expires.is_some_and(|end| now > end.as_secs()) {
            Some(Untimely::Expired)
        } else if self.not_before.is_some_and(|begin| now < begin.as_secs()) {
            Some(Untimely::Early)
        } else {
            None
        }
    }
}

/// What a server in operator mode starts with: whom it trusts, and whose accounts it knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Realm {
    /// The operator's token; names the system account.
    pub operator: String,
    /// The tokens of all accounts, the system account's too, which must not allow it JetStream: real servers do not start
    /// then.
    pub accounts: Vec<String>,
}

impl std::fmt::Debug for Realm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Realm({} accounts)", self.accounts.len())
    }
}

/// A token is not valid at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// Its last second is over.
    Expired,
    /// Its first second has not come.
    Early,
}

mod seconds {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::time::UnixTime;

    pub(super) fn serialize<S: Serializer>(time: &UnixTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UnixTime, D::Error> {
        i64::deserialize(from).map(UnixTime::from_secs)
    }
}

mod seconds_if_any {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::time::UnixTime;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<UnixTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.map_or(0, UnixTime::as_secs))
    }

    /// Zero is none, as for servers.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<UnixTime>, D::Error> {
        let seconds = i64::deserialize(from)?;
        Ok((seconds != 0).then(|| UnixTime::from_secs(seconds)))
    }
}

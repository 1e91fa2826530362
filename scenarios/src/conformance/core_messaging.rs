//! Core messaging: subjects, queue groups, requests, buffers.

use std::time::Duration;

use bytes::Bytes;
use squall_core::Connection as _;
use squall_core::transport::{Headers, Message};

use super::laboratory::{
    Laboratory, LinkVerb, Stop, connect, connect_with, sleep, soon, timed, within,
};
use super::transcript::{Transcript, gist, line, rest, told, until_told, went};

super::facts!("core_messaging" {
    wildcards_match_whole_tokens: "6 wildcards",
    subjects_are_checked_before_they_are_sent: "6 wildcards: client rejects",
    everybody_hears_and_one_of_each_group: "6 queue group; overlapping subs; own echo",
    members_of_a_group_are_drawn: "6 queue group: uniform random, not round-robin",
    a_dropped_subscription_hears_no_more: "6 queue group: others take over",
    requests_are_answered_or_said_to_be_unheard: "6 request, no subscriber; silent responder",
    the_first_answer_counts: "6 two responders",
    one_publisher_is_heard_in_order: "6 order",
    headers_and_reply_subjects_arrive: "6 headers",
    what_is_too_large_is_refused_here: "6 max_payload",
    too_long_a_subject_is_refused_here: "1 huge key; 7 control line 4096",
    a_slow_subscriber_loses_the_newest: "6 slow consumer (client)",
    who_closes_waits_for_no_reader: "6 drain / drop last Client; callbacks run on",
    flush_is_a_round_trip_here: "surprise 13 (the seam is better than async-nats)",
});

async fn wildcards_match_whole_tokens<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let filters = [
        "a", "a.*", "a.>", "*.b", ">", "a.b*", "a.>b", "x.>.y", "A.b", "*", "a.*.c",
    ];
    let mut heard = Vec::new();
    for filter in filters {
        heard.push((filter, far.subscribe(filter, None).await?));
    }
    far.flush().await?;
    let subjects = [
        "a", "a.b", "a.c", "a.b.c", "A.b", "a.b*", "a.>b", "x.>.y", "x.q.y", "a.*", "a.>",
    ];
    for subject in subjects {
        near.publish(Message::new(subject, "m")).await?;
    }
    near.flush().await?;
    for (filter, subscription) in &mut heard {
        let subjects: Vec<String> = rest(lab, subscription)
            .await
            .into_iter()
            .filter(|message| !message.starts_with("_INBOX") && !message.starts_with('$'))
            .collect();
        t.note(filter, line(&subjects));
    }
    Ok(())
}

async fn subjects_are_checked_before_they_are_sent<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    for subject in [
        "", " ", "a b", "a\tb", "a\r\nb", "a..b", "a.", ".a", "a", "é", "*", ">", "a.>",
    ] {
        let message = Message::new(subject, "m");
        t.note(
            subject,
            format!("publish {}", told(&near.publish(message.clone()).await)),
        );
        let subscribed = near.subscribe(subject, None).await;
        t.note(subject, format!("subscribe {}", went(&subscribed)));
        drop(subscribed);
        let subscribed = near.subscribe("s", Some(subject)).await;
        t.note(subject, format!("queue {}", went(&subscribed)));
        drop(subscribed);
        let mut reply = Message::new("s", "m");
        reply.reply = Some(subject.into());
        t.note(
            subject,
            format!("reply {}", told(&near.publish(reply).await)),
        );
        if subject.contains([' ', '\t', '\n']) || subject.is_empty() {
            t.note(
                subject,
                format!("request {}", told(&near.request(message).await)),
            );
        }
    }
    near.flush().await?;
    t.note("the connection", format!("{:?}", near.state()));
    Ok(())
}

async fn everybody_hears_and_one_of_each_group<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let mut own = near.subscribe("s", None).await?;
    let mut twice = near.subscribe("*", None).await?;
    let mut plain = far.subscribe("s", None).await?;
    let mut members = Vec::new();
    for group in ["g", "g", "g", "h"] {
        members.push(far.subscribe("s", Some(group)).await?);
    }
    members.push(near.subscribe("s", Some("g")).await?);
    far.flush().await?;
    near.flush().await?;
    for i in 0..400 {
        near.publish(Message::new("s", format!("{i}"))).await?;
    }
    near.flush().await?;
    t.is(
        "own echo",
        rest(lab, &mut own).await.len().to_string(),
        "400",
    );
    t.is(
        "overlapping",
        rest(lab, &mut twice).await.len().to_string(),
        "400",
    );
    t.is(
        "plain",
        rest(lab, &mut plain).await.len().to_string(),
        "400",
    );
    let mut shares = Vec::new();
    for member in &mut members {
        shares.push(rest(lab, member).await.len());
    }
    t.is("other group", shares[3].to_string(), "400");
    t.is(
        "group",
        (shares.iter().sum::<usize>() - shares[3]).to_string(),
        "400",
    );
    for share in [shares[0], shares[1], shares[2], shares[4]] {
        t.counts("share of a member", share, 50, 160);
    }
    Ok(())
}

async fn a_dropped_subscription_hears_no_more<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let gone = near.subscribe("s", Some("g")).await?;
    let mut left = near.subscribe("s", Some("g")).await?;
    near.flush().await?;
    drop(gone);
    sleep(lab, Duration::from_millis(50)).await;
    near.flush().await?;
    for _ in 0..50 {
        near.publish(Message::new("s", "m")).await?;
    }
    near.flush().await?;
    t.is(
        "the one left",
        rest(lab, &mut left).await.len().to_string(),
        "50",
    );
    drop(left);
    sleep(lab, Duration::from_millis(50)).await;
    near.flush().await?;
    let asked = near.request(Message::new("s", "?")).await;
    t.is("none left", told(&asked), "refused (no responders)");
    Ok(())
}

async fn requests_are_answered_or_said_to_be_unheard<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let (time, asked) = timed(lab, near.request(Message::new("s", "?"))).await;
    t.is("nobody", told(&asked), "refused (no responders)");
    t.lasts("nobody", time, 0, 500);
    let mut service = far.subscribe("s", Some("g")).await?;
    far.flush().await?;
    let answer = async {
        let message = service.next().await?;
        let reply = message.reply.clone()?;
        far.publish(Message::new(reply, "answer")).await.ok()
    };
    let ask = near.request(Message::new("s", "?"));
    let (answered, asked) = tokio::join!(biased; soon(lab, "a request", answer), ask);
    answered?;
    let payload = asked.map(|message| String::from_utf8_lossy(&message.payload).into_owned());
    t.is("answered", payload.unwrap_or_default(), "answer");
    let (time, asked) = timed(lab, near.request(Message::new("s", "?"))).await;
    t.is("silent", told(&asked), "unknown (no answer in time)");
    t.lasts("silent", time, 1990, 2600);
    far.close().await;
    sleep(lab, Duration::from_millis(50)).await;
    let asked = near.request(Message::new("s", "?")).await;
    t.is("closed", told(&asked), "refused (no responders)");
    Ok(())
}

async fn the_first_answer_counts<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let mut service = far.subscribe("s", None).await?;
    far.flush().await?;
    for round in 0..5 {
        let answer = async {
            let reply = service.next().await?.reply?;
            for word in ["first", "second"] {
                far.publish(Message::new(reply.clone(), word)).await.ok()?;
            }
            Some(())
        };
        let ask = near.request(Message::new("s", format!("{round}")));
        let (answered, asked) = tokio::join!(biased; soon(lab, "a request", answer), ask);
        answered?;
        let payload = asked?.payload;
        t.is("answer", String::from_utf8_lossy(&payload), "first");
    }
    Ok(())
}

async fn one_publisher_is_heard_in_order<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let mut heard = far.subscribe(">", None).await?;
    far.flush().await?;
    for i in 0..500 {
        near.publish(Message::new(format!("s.{}", i % 7), format!("{i}")))
            .await?;
    }
    let told = until_told(lab, &mut heard, "s.2=499").await;
    let numbers: Vec<u32> = told
        .iter()
        .filter(|message| message.starts_with("s."))
        .filter_map(|message| message.split_once('=')?.1.parse().ok())
        .collect();
    t.is(
        "in order",
        (numbers == (0..500).collect::<Vec<_>>()).to_string(),
        "true",
    );
    Ok(())
}

async fn headers_and_reply_subjects_arrive<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut heard = near.subscribe("s", None).await?;
    let mut headers = Headers::new();
    for (name, value) in [
        ("B", "1"),
        ("A", "2"),
        ("B", "3"),
        ("a", ""),
        ("C", " x y "),
    ] {
        headers.append(name, value);
    }
    let message = Message {
        reply: Some("r.1".into()),
        headers,
        ..Message::new("s", "m")
    };
    near.publish(message).await?;
    match within(lab, Duration::from_secs(5), heard.next())
        .await
        .flatten()
    {
        Some(message) => {
            t.note("headers", format!("{:?}", message.headers));
            t.is("reply", message.reply.as_deref().unwrap_or("none"), "r.1");
        }
        None => t.note("headers", "nothing came"),
    }
    for (name, value) in [
        ("a\r\nb", "c"),
        ("a", "b\r\nc"),
        ("a:b", "c"),
        ("é", "c"),
        ("", "c"),
        ("a", "é"),
    ] {
        let mut headers = Headers::new();
        headers.append(name, value);
        let message = Message {
            headers,
            ..Message::new("s", "m")
        };
        t.note(
            &format!("{name:?}: {value:?}"),
            told(&near.publish(message).await),
        );
    }
    near.flush().await?;
    t.note("heard", line(&rest(lab, &mut heard).await));
    Ok(())
}

async fn what_is_too_large_is_refused_here<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut heard = near.subscribe("s", None).await?;
    let large = |n: usize| Message::new("s", Bytes::from(vec![b'x'; n]));
    const LIMIT: usize = 1_048_576;
    t.is("the most", told(&near.publish(large(LIMIT)).await), "done");
    let refused = "refused (1048577 bytes with headers, and the server takes 1048576)";
    t.is(
        "one more",
        told(&near.publish(large(LIMIT + 1)).await),
        refused,
    );
    t.is(
        "one more",
        told(&near.request(large(LIMIT + 1)).await),
        refused,
    );
    let mut with_headers = large(LIMIT - 18);
    with_headers.headers.append("A", "b");
    t.note(
        "with headers",
        told(&near.publish(with_headers.clone()).await),
    );
    with_headers.headers.append("A", "b");
    t.note("with more headers", told(&near.publish(with_headers).await));
    near.flush().await?;
    t.note("heard", rest(lab, &mut heard).await.len().to_string());
    t.note("the connection", format!("{:?}", near.state()));
    Ok(())
}

async fn a_slow_subscriber_loses_the_newest<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect_with(lab, "far", |options| options.subscription_capacity = 4).await?;
    let mut events = far.events();
    let mut heard = far.subscribe("s", None).await?;
    far.flush().await?;
    for i in 0..20 {
        near.publish(Message::new("s", format!("{i}"))).await?;
    }
    near.flush().await?;
    sleep(lab, Duration::from_millis(200)).await;
    t.is(
        "kept",
        line(&rest(lab, &mut heard).await),
        "s=0, s=1, s=2, s=3",
    );
    let said = rest(lab, &mut events).await;
    t.is("said", gist(&said), "slow consumer");
    t.is("said so often", said.len().to_string(), "16");
    near.publish(Message::new("s", "more")).await?;
    t.is(
        "still alive",
        line(&until_told(lab, &mut heard, "s=more").await),
        "s=more",
    );
    Ok(())
}

async fn flush_is_a_round_trip_here<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let mut missed = 0;
    for _ in 0..50 {
        let mut heard = far.subscribe("s", None).await?;
        far.flush().await?;
        near.publish(Message::new("s", "m")).await?;
        let message = within(lab, Duration::from_secs(5), heard.next()).await;
        missed += usize::from(message.flatten().is_none());
    }
    t.is("missed", missed.to_string(), "0");
    lab.link("far", LinkVerb::Hold);
    let (time, flushed) = timed(lab, far.flush()).await;
    t.is(
        "held",
        told(&flushed),
        "unknown (the server did not answer in time)",
    );
    t.lasts("held", time, 1990, 2600);
    lab.link("far", LinkVerb::Release);
    t.is("released", told(&far.flush().await), "done");
    Ok(())
}

async fn members_of_a_group_are_drawn<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    const MESSAGES: usize = 600;
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(far.subscribe("s", Some("g")).await?);
    }
    far.flush().await?;
    for number in 0..MESSAGES {
        near.publish(Message::new("s", format!("{number}"))).await?;
    }
    near.flush().await?;
    far.flush().await?;
    let mut hearers = vec![0_usize; MESSAGES];
    for (place, member) in members.iter_mut().enumerate() {
        for said in rest(lab, member).await {
            let number = said
                .strip_prefix("s=")
                .and_then(|number| number.parse().ok());
            if let Some(hearer) = number.and_then(|number: usize| hearers.get_mut(number)) {
                *hearer = place;
            }
        }
    }
    let runs = hearers.chunk_by(|one, other| one == other);
    t.sample(
        "runs of one member",
        runs.map(|run| run.len() as f64).collect(),
        0.0,
    );
    t.sample(
        "members",
        hearers.iter().map(|place| *place as f64).collect(),
        0.0,
    );
    Ok(())
}

async fn too_long_a_subject_is_refused_here<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let mut events = near.events();
    // A server hangs up where the line of a message is longer than 4096 bytes.
    for length in [1000, 3000, 4000, 4060, 5000, 100_000] {
        let published = near.publish(Message::new("s".repeat(length), "m")).await;
        let said = if published.is_ok() { "done" } else { "refused" };
        t.note(&format!("publish to {length}"), said);
        let heard = near.subscribe(&"s".repeat(length), None).await;
        let said = if heard.is_ok() { "done" } else { "refused" };
        t.note(&format!("subscribe to {length}"), said);
    }
    t.is("flush", told(&near.flush().await), "done");
    t.is("events", line(&rest(lab, &mut events).await), "nothing");
    Ok(())
}

async fn who_closes_waits_for_no_reader<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let mut heard = far.subscribe("s", None).await?;
    far.flush().await?;
    for number in 0..3 {
        near.publish(Message::new("s", format!("{number}"))).await?;
    }
    near.flush().await?;
    far.flush().await?;
    let closed = within(lab, Duration::from_secs(1), far.close()).await;
    t.is("close", closed.map_or("waits", |()| "done"), "done");
    // What had come before is read afterwards, as a callback that was not joined runs on.
    let late = until_told(lab, &mut heard, "(end)").await;
    t.is("read", line(&late), "s=0, s=1, s=2, (end)");
    Ok(())
}

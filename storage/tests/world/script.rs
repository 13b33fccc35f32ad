//! One run through everything that a store does, and a shorter one for a store that was recovered.

use std::time::Duration;

use storage::disk::Disk;

use super::{HOUR, Verdict, World};

/// Uses a recovered store in every way, until its ring has gone round.
pub fn live_on<D: Disk>(world: &mut World<D>) -> Verdict<()> {
    let lasting = world.base.topics.iter().filter(|(_, topic)| topic.lasting);
    let names: Vec<String> = lasting.map(|(name, _)| name.clone()).collect();
    for topic in &names {
        world.pause_topic(topic, false)?;
        world.create_channel(topic, "late", true)?;
        world.publish(topic, &[100, 2000])?;
    }
    world.settle()?;
    world.check()?;
    world.create_topic("afterwards", true)?;
    world.create_channel("afterwards", "all", true)?;
    world.publish("afterwards", &[6000, 50, 3000])?;
    world.settle()?;
    for round in 0..20 {
        world.publish("afterwards", &[40 + 100 * round])?;
        world.settle()?;
        world.consume("afterwards", "all", 2)?;
        world.finish("afterwards", "all", 0)?;
    }
    for topic in &names {
        while world.consume(topic, "late", 8)? > 0 {}
        while world.finish(topic, "late", 0)? {}
    }
    world.settle()?;
    world.check()
}

/// Everything that a store does.
pub fn script<D: Disk>(world: &mut World<D>) -> Verdict<()> {
    world.create_topic("clicks", true)?;
    world.create_channel("clicks", "uplink", true)?;
    world.publish("clicks", &[100])?;
    world.settle()?;
    world.create_topic("views", true)?;
    world.publish("views", &[200, 300, 400])?;
    world.publish("clicks", &[1000])?;
    world.settle()?;
    world.create_channel("views", "first", true)?;
    world.settle()?;
    world.create_channel("views", "second", true)?;
    world.create_channel("clicks", "count", true)?;
    world.publish("views", &[20])?;
    world.settle()?;
    world.publish_deferred("clicks", &[50, 60], HOUR * 10)?;

    consume_some(world)?;
    // Until the first checkpoint and beyond: `uplink` keeps up, `count` does not.
    for round in 0..14 {
        world.publish("clicks", &[500, 700 + round])?;
        world.publish("views", &[30 + round])?;
        if round % 3 == 0 {
            world.run_one()?;
            world.publish("clicks", &[90])?;
        }
        world.settle()?;
        world.consume("clicks", "uplink", 2)?;
        world.finish("clicks", "uplink", round % 2)?;
    }
    // More than a sixteenth of the ring, with small ones before and after it that wait for the same commit.
    world.publish("clicks", &[111])?;
    world.publish("clicks", &[3000, 2000, 60, 3000])?;
    world.publish("clicks", &[112])?;
    world.settle()?;
    world.pause_topic("views", true)?;
    world.publish("views", &[70, 71])?;
    world.pause_channel("clicks", "count", true)?;
    world.settle()?;
    world.empty_channel("views", "second")?;
    world.create_topic("brief", true)?;
    world.create_channel("brief", "c", true)?;
    world.settle()?;
    world.publish("brief", &[2000, 2000, 2000])?;
    world.create_topic("passing#ephemeral", false)?;
    world.settle()?;
    world.publish("passing#ephemeral", &[10])?;
    world.create_channel("clicks", "watch#ephemeral", false)?;

    consume_all(world)?;
    for round in 0..16 {
        world.publish("views", &[600 + round])?;
        world.publish("clicks", &[1200])?;
        world.settle()?;
        world.consume("clicks", "uplink", 4)?;
        while world.finish("clicks", "uplink", 0)? {}
        match round {
            3 => world.delete_topic("brief")?,
            5 => world.delete_channel("views", "first")?,
            7 => world.pause_topic("views", false)?,
            9 => world.empty_topic("views")?,
            11 => world.create_topic("brief", true)?,
            13 => world.publish("brief", &[8000, 8000])?,
            _ => {}
        }
    }
    world.settle()?;
    // More gaps than one block may say.
    for _ in 0..2 {
        world.publish("views", &[16; 200])?;
        world.settle()?;
    }
    world.consume("views", "second", 400)?;
    for nth in 0..190 {
        world.finish("views", "second", nth)?;
    }
    world.run_one()?;
    world.settle()?;
    world.delete_channel("views", "second")?;
    world.publish("views", &[300])?;
    world.settle()?;
    consume_all(world)?;
    world.settle()?;
    // Changes that wait behind a batch which moves the records that they make needless.
    world.create_topic("sweep", true)?;
    world.create_channel("sweep", "all", true)?;
    world.publish("sweep", &[100, 200])?;
    world.settle()?;
    world.publish("sweep", &[3000, 2000, 60, 3000])?;
    world.empty_channel("sweep", "all")?;
    world.settle()?;
    // A segment's last finishes come while a block that does not say them is on its way.
    world.publish("sweep", &[3000, 2000, 60, 3000])?;
    world.settle()?;
    world.consume("sweep", "all", 9)?;
    world.publish("brief", &[50])?;
    world.run_one_while(|world| {
        while world.finish("sweep", "all", 0)? {}
        Ok(())
    })?;
    while world.run_one()? {}
    world.settle()?;
    world.publish("sweep", &[100, 200])?;
    world.settle()?;
    world.publish("sweep", &[3000, 2000, 60, 3000])?;
    world.delete_channel("sweep", "all")?;
    world.settle()?;
    // Nothing is left but `count`'s backlog; now that goes too, and with it its segments.
    world.pause_channel("clicks", "count", false)?;
    drain(world, "clicks", "count")?;
    drain(world, "clicks", "uplink")?;
    for round in 0..20 {
        world.publish("clicks", &[100 * round])?;
        world.settle()?;
    }
    world.settle()
}

fn consume_some<D: Disk>(world: &mut World<D>) -> Verdict<()> {
    world.settle()?;
    world.consume("clicks", "uplink", 3)?;
    world.consume("clicks", "count", 2)?;
    world.consume("views", "second", 1)?;
    world.finish("clicks", "uplink", 1)?;
    world.requeue("clicks", "uplink", 0, Duration::ZERO)?;
    world.requeue("clicks", "uplink", 0, HOUR)?;
    world.finish("clicks", "count", 0)?;
    world.settle()
}

/// Takes much and finishes it out of order, with gaps.
fn consume_all<D: Disk>(world: &mut World<D>) -> Verdict<()> {
    for (topic, channel) in [("clicks", "uplink"), ("clicks", "count")] {
        world.consume(topic, channel, 20)?;
        for nth in [5, 3, 3, 9, 0, 11] {
            world.finish(topic, channel, nth)?;
        }
        world.requeue(topic, channel, 2, Duration::ZERO)?;
    }
    Ok(())
}

fn drain<D: Disk>(world: &mut World<D>, topic: &str, channel: &str) -> Verdict<()> {
    while world.consume(topic, channel, 8)? > 0 {
        while world.finish(topic, channel, 0)? {}
        world.settle()?;
    }
    while world.finish(topic, channel, 0)? {}
    world.settle()
}

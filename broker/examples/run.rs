#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
fn main() {
    let mut config = config::Config::default();
    for arg in std::env::args().skip(1) {
        config.set(&arg).unwrap();
    }
    let env = config::Environment {
        state_directory: None,
        hostname: "h".into(),
    };
    let options = config.resolve(&env).unwrap();
    let mut signals = runtime::signal::Signals::block().unwrap();
    runtime::run(async move {
        let broker = broker::Broker::bind(&options.broker, &[]).expect("start");
        let stop = runtime::Stop::new();
        let task = runtime::spawn(broker.run(stop.clone()));
        signals.next().await;
        stop.request();
        task.await;
    });
}

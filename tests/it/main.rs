//! The end-to-end tests, in one binary: every scenario file on every release it names, the command line as people use it,
//! stock clients against the API server, and the lab seen from a container.
//!
//! What belongs here needs a whole lab or the built program. What a function alone can show is tested beside it.

mod bench;
mod blog;
mod clients;
mod command_line;
mod container;
mod contract;
mod metric_names;
mod operator;
mod pages;
mod providers;
mod reconcile;
mod relabel;
mod review;
mod rules;
mod scenarios;
mod vm;
mod why;

use libtest_mimic::{Arguments, Trial};

fn main() {
    wire::install_crypto_provider();
    let mut arguments = Arguments::from_args();
    // A lab mostly waits for scrape intervals and leases, so two at a time on each core finish in half the time of one.
    arguments.test_threads.get_or_insert_with(|| 2 * std::thread::available_parallelism().map_or(2, usize::from));
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(scenarios::trials());
    trials.extend(command_line::trials());
    trials.extend(clients::trials());
    trials.extend(container::trials());
    trials.extend(blog::trials());
    trials.extend(operator::trials());
    trials.extend(reconcile::trials());
    trials.extend(contract::trials());
    trials.extend(metric_names::trials());
    trials.extend(relabel::trials());
    trials.extend(review::trials());
    trials.extend(rules::trials());
    trials.extend(why::trials());
    trials.extend(pages::trials());
    trials.extend(vm::trials());
    trials.extend(providers::trials());
    libtest_mimic::run(&arguments, trials).exit();
}

//! Has the binary rebuilt when the web client was, also when it appears for the first time.

fn main() {
    println!("cargo::rerun-if-changed=../web/dist");
    println!("cargo::rerun-if-changed=build.rs");
}

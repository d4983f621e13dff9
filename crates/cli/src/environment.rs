//! What the environment must say before a driver is loaded. Called first thing in `main`, while there is one thread.

/// Keeps Mesa's device-select layer from looking for a display server where there can be none.
///
/// The layer is loaded with every Vulkan driver of Mesa. To find the display's GPU it calls Wayland's client library, which
/// writes `error: XDG_RUNTIME_DIR is invalid or not set in the environment` to stderr on every machine without a session:
/// servers, containers, CI. The layer's own manifest names the variable that turns it off. The order in which it would put
/// the devices is of no use here, because they are ranked by kind.
#[expect(unsafe_code, reason = "the environment is process-wide")]
#[expect(clippy::disallowed_methods, reason = "the binary reads the environment")]
pub(crate) fn quiet_drivers() {
    const SWITCH: &str = "NODEVICE_SELECT";
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && std::env::var_os(SWITCH).is_none() {
        // SAFETY: `main` calls this before it starts anything, so no other thread reads or writes the environment.
        unsafe { std::env::set_var(SWITCH, "1") };
    }
}

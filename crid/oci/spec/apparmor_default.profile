# crid's default AppArmor profile: the one that stands for RuntimeDefault. Loaded by the daemon at its start.
#
# A second line of defence. Namespaces, capabilities and seccomp do most of the confining; this denies the kernel's own
# files by which a root process of a container could still reach the host, and mounting, even where a pod is given
# CAP_SYS_ADMIN without being privileged. It needs no file of /etc/apparmor.d.

profile crid-default flags=(attach_disconnected,mediate_deleted) {
  # What is not denied below is left to the other defences.
  file,
  network,
  capability,
  umount,
  unix,
  dbus,

  # The runtime and the daemon, both unconfined or under a profile of their own, stop and signal the container; its
  # processes signal and trace each other.
  signal (receive) peer=unconfined,
  signal (receive) peer=/usr/bin/crun,
  signal (receive) peer=/usr/sbin/runc,
  signal (receive) peer=crun,
  signal (receive) peer=runc,
  signal (send, receive) peer=crid-default,
  ptrace (trace, read, tracedby, readby) peer=crid-default,

  deny mount,

  # /proc: a container may write to what belongs to its processes, and to the sysctls of its own namespaces.
  deny /proc/{[^1-9s],[^1-9s][^/]*}/** w,
  deny /proc/{s,se,sel,s[^ey]*,se[^l]*,sel[^f]*}/** w,
  deny /proc/sys/[^kn]** w,
  deny /proc/sys/kernel/[^smdh]** w,
  deny /proc/sys/kernel/s[^eh]** w,
  deny /proc/sys/kernel/se[^m]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/sys/kernel/m[^s]** w,
  deny /proc/sys/kernel/d[^o]** w,
  deny /proc/sys/kernel/h[^o]** w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/kmem rwklx,
  deny /proc/mem rwklx,
  deny /proc/acpi/** rwklx,

  # /sys: cgroups are mediated by their mount, which is read-only; firmware and security are the host's.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}

/**
 * What a program in a box may not ask of the kernel, once for every backend: bubblewrap assembles it into a program, docker gets
 * it as a profile. It denies what widens the kernel's surface and is not needed to compute; everything else is left to the
 * namespaces. An architecture that is not the machine's own ends the process.
 */

/** Refused with EPERM. */
export const REFUSED = [
  // another way to make sockets and open files past every filter
  'io_uring_setup',
  'io_uring_enter',
  'io_uring_register',
  // kernel key rings are not namespaced
  'keyctl',
  'add_key',
  'request_key',
  // programs in the kernel, faults handled by the program, performance counters, the kernel's log
  'bpf',
  'userfaultfd',
  'perf_event_open',
  'syslog',
  // mounts and namespaces
  'mount',
  'umount2',
  'pivot_root',
  'chroot',
  'setns',
  'unshare',
  'open_tree',
  'move_mount',
  'fsopen',
  'fsconfig',
  'fsmount',
  'fspick',
  'mount_setattr',
  // other processes' memory and descriptors
  'ptrace',
  'process_vm_readv',
  'process_vm_writev',
  'pidfd_getfd',
  'kcmp',
  'process_madvise',
  // handles around path checks
  'open_by_handle_at',
  'name_to_handle_at',
  // the machine
  'kexec_load',
  'kexec_file_load',
  'init_module',
  'finit_module',
  'delete_module',
  'swapon',
  'swapoff',
  'reboot',
  'settimeofday',
  'clock_settime',
  'clock_adjtime',
  'adjtimex',
  'sethostname',
  'setdomainname',
  'quotactl',
  'quotactl_fd',
  'acct',
  'fanotify_init',
  'lookup_dcookie',
  'nfsservctl',
  'vhangup',
  'iopl',
  'ioperm',
  'move_pages',
  'migrate_pages',
  'mbind',
  'set_mempolicy',
  'personality',
] as const;

/** Refused with ENOSYS, so that the C library uses the older call whose flags can be read. */
export const ABSENT = ['clone3'] as const;

/** clone(2) flags that make namespaces. */
export const CLONE_NEW = 0x7e020000;
/** The only kinds of socket; not AF_VSOCK (reaches the machine's host), AF_PACKET, AF_NETLINK, AF_ALG and the rest. */
export const ALLOWED_FAMILIES = { AF_UNIX: 1, AF_INET: 2, AF_INET6: 10 } as const;
/** ioctl(2) requests that type into a terminal. */
export const TIOCSTI = 0x5412;
export const TIOCLINUX = 0x541c;
export const EPERM = 1;
export const ENOSYS = 38;
export const EAFNOSUPPORT = 97;

/** Keeps sockets beyond the end of this process: systemd's fd store (sd_notify(3), FDSTORE=1). */
export interface SocketKeeper {
  /** False: there is no manager; nothing outlives the process. */
  readonly keeps: boolean;
  keep(name: string, fd: number): void;
  /** Forgets what it kept; a name that it does not keep is success. */
  release(name: string): void;
}

export const noKeeper: SocketKeeper = { keeps: false, keep() {}, release() {} };

/**
 * Open vSwitch with DPDK as a baseline: Debian's openvswitch-switch-dpdk without huge pages, one core polling a capture that
 * net_pcap plays without end, connection tracking, packets to a port that forgets them. Everything lies in a folder of its
 * own, and its processes are stopped while others are measured.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PoolMemory } from './pool.js';

const SWITCH = '/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk';
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

export const openVSwitchIsThere = (): boolean => existsSync(SWITCH) && existsSync(SCHEMA);

const RULES = `
table=0,in_port=1,ip,actions=ct(table=1)
table=1,ip,ct_state=+trk+new,actions=ct(commit),output:2
table=1,ip,ct_state=+trk+est,actions=output:2
`;

export class OpenVSwitch {
  private readonly folder = mkdtempSync(join(tmpdir(), 'seine-ovs-'));
  private readonly children: ChildProcess[] = [];
  private readonly environment: NodeJS.ProcessEnv;

  private constructor() {
    const { folder } = this;
    this.environment = {
      ...process.env,
      OVS_RUNDIR: folder,
      OVS_LOGDIR: folder,
      OVS_DBDIR: folder,
      OVS_SYSCONFDIR: folder,
    };
  }

  /** Plays a pool's packets; polls on processor `core`. */
  static async start(pool: PoolMemory, core: number): Promise<OpenVSwitch> {
    const ovs = new OpenVSwitch();
    try {
      await ovs.run(pool, core);
      return ovs;
    } catch (error) {
      await ovs.close();
      throw error;
    }
  }

  private async run(pool: PoolMemory, core: number): Promise<void> {
    const { folder } = this;
    writeFileSync(join(folder, 'pool.pcap'), capture(pool));
    this.call('ovsdb-tool', 'create', join(folder, 'conf.db'), SCHEMA);
    this.spawn(
      'ovsdb-server',
      join(folder, 'conf.db'),
      `--remote=punix:${folder}/db.sock`,
      `--unixctl=${folder}/db.ctl`,
    );
    await this.until(() => existsSync(join(folder, 'db.sock')));
    this.configure('--no-wait', 'init');
    this.configure(
      '--no-wait',
      'set',
      'Open_vSwitch',
      '.',
      'other_config:dpdk-init=true',
      'other_config:dpdk-lcore-mask=0x1',
      `other_config:pmd-cpu-mask=0x${(1 << core).toString(16)}`,
      'other_config:dpdk-extra="--no-huge --legacy-mem -m 2048 --no-pci --iova-mode=va --no-telemetry"',
    );
    this.spawn(SWITCH, `unix:${folder}/db.sock`, `--unixctl=${folder}/vs.ctl`, `--log-file=${folder}/vs.log`);
    await this.until(() => existsSync(join(folder, 'vs.ctl')));
    this.configure('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev', 'fail-mode=secure');
    writeFileSync(join(folder, 'rules'), RULES);
    this.call('ovs-ofctl', 'add-flows', join(folder, 'br0.mgmt'), join(folder, 'rules'));
    this.port(2, 'net_null0,no-rx=1');
    this.port(1, `net_pcap0,rx_pcap=${folder}/pool.pcap,infinite_rx=1`);
  }
  private port(number: number, device: string): void {
    const name = `p${number}`;
    const options = ['type=dpdk', `ofport_request=${number}`, `options:dpdk-devargs="${device}"`];
    this.configure('add-port', 'br0', name, '--', 'set', 'Interface', name, ...options);
    const error = this.configure('get', 'Interface', name, 'error').trim();
    if (error !== '[]') throw new Error(`Open vSwitch, ${name}: ${error}`);
  }

  private spawn(command: string, ...args: string[]): void {
    this.children.push(spawn(command, args, { env: this.environment, stdio: 'ignore' }));
  }
  private call(command: string, ...args: string[]): string {
    return execFileSync(command, args, {
      env: this.environment,
      encoding: 'utf8',
      timeout: 60_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }
  private configure(...args: string[]): string {
    return this.call('ovs-vsctl', `--db=unix:${this.folder}/db.sock`, '--timeout=50', ...args);
  }
  private ask(...args: string[]): string {
    return this.call('ovs-appctl', '-t', join(this.folder, 'vs.ctl'), ...args);
  }
  private async until(done: () => boolean): Promise<void> {
    const deadline = Date.now() + 30_000;
    while (!done()) {
      const ended = this.children.find(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null);
      if (ended !== undefined || Date.now() > deadline) throw new Error('Open vSwitch did not start');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  connections(): number {
    return Number(/Total: (\d+)/.exec(this.ask('dpctl/ct-stats-show'))?.[1] ?? 0);
  }
  /** Processor time of the polling thread for a packet, ns, over some time; every packet must have been tracked. */
  async nsPerPacket(milliseconds: number): Promise<number> {
    this.ask('dpif-netdev/pmd-stats-clear');
    const before = this.pollingNs();
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    const shown = this.ask('dpif-netdev/pmd-stats-show');
    const took = this.pollingNs() - before;
    const figure = (name: string): number => Number(new RegExp(`${name}: (\\d+)`).exec(shown)?.[1] ?? 0);
    const packets = figure('packets received');
    if (packets === 0 || figure('packet recirculations') < packets * 0.99)
      throw new Error(`Open vSwitch did not track its packets:\n${shown}`);
    return took / packets;
  }

  /** Processor time of the thread that polls (proc(5): /proc/PID/task/TID/schedstat, its first field). */
  private pollingNs(): number {
    const tasks = `/proc/${this.children[1]!.pid}/task`;
    for (const task of readdirSync(tasks)) {
      if (readFileSync(join(tasks, task, 'comm'), 'utf8').startsWith('pmd-'))
        return Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]);
    }
    throw new Error('Open vSwitch has no polling thread');
  }

  pause(): void {
    for (const child of this.children) child.kill('SIGSTOP');
  }
  resume(): void {
    for (const child of this.children) child.kill('SIGCONT');
  }
  async close(): Promise<void> {
    this.resume();
    for (const child of this.children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    rmSync(this.folder, { recursive: true });
  }
}

/** The pool's frames as a pcap file. */
function capture(pool: PoolMemory): Buffer {
  const octets = Buffer.from(pool.octets);
  const lengths = new Uint32Array(pool.length);
  const file = Buffer.alloc(24 + pool.rows * 16 + octets.length);
  file.writeUInt32LE(0xa1b2c3d4, 0);
  file.writeUInt16LE(2, 4);
  file.writeUInt16LE(4, 6);
  file.writeUInt32LE(65_535, 16);
  file.writeUInt32LE(1, 20);
  let from = 0;
  let at = 24;
  for (const length of lengths) {
    file.writeUInt32LE(length, at + 8);
    file.writeUInt32LE(length, at + 12);
    octets.copy(file, at + 16, from, from + length);
    from += length;
    at += 16 + length;
  }
  return file.subarray(0, at);
}

/** The kernel's VXLAN device takes our encapsulated packets and we take its: pings both ways, in namespaces made for it. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';
import { listenUnix } from '../../src/server/unix-listener.js';
import { havePeers } from './peer.js';

const SCRIPT = new URL('../../../test/interop/vxlan_pod.py', import.meta.url).pathname;
const OURS = 'seine-vxlan-b',
  KERNELS = 'seine-vxlan-a';
const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });

const OBJECTS = JSON.stringify([
  {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n1', annotations: { 'seine.dev/mac': '02:00:00:00:77:02' } },
    spec: { podCIDRs: ['10.66.1.0/24'] },
    status: { addresses: [{ type: 'InternalIP', address: '192.168.77.2' }] },
  },
  {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n2', annotations: { 'seine.dev/mac': '02:00:00:00:77:01' } },
    spec: { podCIDRs: ['10.66.2.0/24'] },
    status: { addresses: [{ type: 'InternalIP', address: '192.168.77.1' }] },
  },
  {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', annotations: { 'seine.dev/mac': '02:00:00:00:00:05' } },
    spec: { nodeName: 'n1' },
    status: { podIP: '10.66.1.5' },
  },
]);

function mayMakeNamespaces(t: TestContext): boolean {
  if (spawnSync('ip', ['netns', 'add', 'seine-probe']).status === 0) {
    spawnSync('ip', ['netns', 'del', 'seine-probe']);
    return true;
  }
  const reason = 'NOT TESTED: network namespaces need root';
  if (process.env.CI === 'true') throw new Error(reason);
  t.skip(reason);
  return false;
}

for (const tunnelCsum of [false, true]) {
  test(`vxlan: the kernel's device and the engine ping each other, every checksum right (tunnelCsum ${tunnelCsum})`, async (t) => {
    if (!havePeers(t, ['ip', 'ping', 'tshark', 'python3'], 'iproute2 iputils-ping tshark python3-msgpack')) return;
    const python = ['/usr/bin/python3', 'python3'].find(
      (program) => spawnSync(program, ['-c', 'import msgpack']).status === 0,
    );
    if (python === undefined) {
      if (process.env.CI === 'true') assert.fail('python3-msgpack is missing');
      t.skip("NOT TESTED: Debian's python3-msgpack not found");
      return;
    }
    if (!mayMakeNamespaces(t)) return;
    const folder = mkdtempSync(join(tmpdir(), 'seine-vxlan-'));
    const socket = join(folder, 'b.sock');
    const { config } = parseConfig(
      { node: 'n1', workers: 2, tunnelCsum, listen: { unix: socket, grpc: null, http: null } },
      'test',
    );
    const { objects } = applyObjects(emptyObjects(), readManifest(OBJECTS, 'test').inputs);
    const engine = await Engine.start({
      config,
      objects,
      workerEntry: new URL('../../src/server/worker-entry.cjs', import.meta.url),
    });
    const listener = await listenUnix(socket, (fd) => engine.adoptDescriptor(fd));
    t.after(async () => {
      spawnSync('ip', ['netns', 'del', OURS]);
      spawnSync('ip', ['netns', 'del', KERNELS]);
      await listener.close();
      await engine.close();
      rmSync(folder, { recursive: true });
    });
    for (const name of [OURS, KERNELS]) {
      spawnSync('ip', ['netns', 'del', name]);
      ip('netns', 'add', name);
    }
    ip(
      'link',
      'add',
      'a0',
      'netns',
      KERNELS,
      'address',
      '02:00:00:00:77:01',
      'type',
      'veth',
      'peer',
      'name',
      'b0',
      'netns',
      OURS,
      'address',
      '02:00:00:00:77:02',
    );
    ip('-n', KERNELS, 'addr', 'add', '192.168.77.1/24', 'dev', 'a0');
    ip('-n', KERNELS, 'link', 'set', 'a0', 'up');
    ip('-n', OURS, 'link', 'set', 'b0', 'up');
    ip('-n', KERNELS, 'neigh', 'add', '192.168.77.2', 'lladdr', '02:00:00:00:77:02', 'dev', 'a0');
    ip(
      '-n',
      KERNELS,
      'link',
      'add',
      'vx0',
      'address',
      '02:00:00:00:00:aa',
      'type',
      'vxlan',
      'id',
      '0',
      'dstport',
      '4789',
      'remote',
      '192.168.77.2',
      'local',
      '192.168.77.1',
      'dev',
      'a0',
      tunnelCsum ? 'udpcsum' : 'noudpcsum',
    );
    ip('-n', KERNELS, 'addr', 'add', '10.66.2.1/16', 'dev', 'vx0');
    ip('-n', KERNELS, 'link', 'set', 'vx0', 'up');
    ip('-n', KERNELS, 'neigh', 'add', '10.66.1.5', 'lladdr', '02:00:00:00:00:05', 'dev', 'vx0');
    // Offloads of a veth would hand us checksums that are not filled in.
    spawnSync('ip', ['netns', 'exec', KERNELS, 'ethtool', '-K', 'a0', 'tx', 'off']);

    const pcap = join(folder, 'wire.pcap');
    const pod = spawn(
      'ip',
      ['netns', 'exec', OURS, python, SCRIPT, socket, 'b0', '02:00:00:00:00:05', '10.66.1.5', '10.66.2.1', pcap],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let out = '';
    let err = '';
    pod.stdout.on('data', (text) => {
      out += text;
    });
    pod.stderr.on('data', (text) => {
      err += text;
    });
    const ended = new Promise<number | null>((resolve) => pod.on('close', resolve));
    while (!out.includes('ready') && pod.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
    const ping = spawn(
      'ip',
      ['netns', 'exec', KERNELS, 'ping', '-c', '3', '-i', '0.3', '-W', '2', '-s', '1200', '10.66.1.5'],
      { stdio: 'ignore' },
    );
    const pinged = await new Promise<number | null>((resolve) => ping.on('close', resolve));
    assert.equal(await ended, 0, err);
    const result = JSON.parse(out.trim().split('\n').at(-1)!) as {
      answered: number;
      replies: number;
      drops: unknown[];
    };
    assert.equal(pinged, 0, `the kernel's ping got no answers: ${JSON.stringify(result)}`);
    assert.ok(result.answered >= 3, JSON.stringify(result));
    assert.ok(result.replies >= 3, JSON.stringify(result));
    assert.deepEqual(result.drops, []);
    const fields = execFileSync(
      'tshark',
      [
        '-r',
        pcap,
        '-o',
        'ip.check_checksum:TRUE',
        '-o',
        'udp.check_checksum:TRUE',
        '-Y',
        'vxlan && icmp',
        '-T',
        'fields',
        '-e',
        'ip.checksum.status',
        '-e',
        'udp.checksum.status',
        '-e',
        'icmp.checksum.status',
        '-e',
        'vxlan.vni',
        '-e',
        'udp.srcport',
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    )
      .toString()
      .trim()
      .split('\n');
    assert.ok(fields.length >= 12, `${fields.length} VXLAN packets`);
    for (const line of fields) {
      const [ips = '', udp = '', icmp = ''] = line.split('\t');
      assert.equal(ips, '1,1', line); // 1: good
      assert.ok(tunnelCsum ? udp === '1' : udp === '1' || udp === '3', line); // 3: not present
      assert.equal(icmp, '1', line);
    }
  });
}

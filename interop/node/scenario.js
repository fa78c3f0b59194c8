// node-zookeeper-client, unmodified, against the server that the first argument names.
//
// Standard output carries only `ok`, `FAIL`, `RESTART?` and `END` lines; after `RESTART? how` the
// runner restarts the server and answers `DONE`.
'use strict';

const assert = require('assert');
const crypto = require('crypto');
const readline = require('readline');
const zookeeper = require('node-zookeeper-client');

const { ACL, CreateMode, Event, Exception, Id, Permission, State } = zookeeper;
// Longest wait for anything that must happen; no test asserts a duration.
const WAIT_MS = 60000;
const connect = process.argv[2];
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

let passed = 0;
let failed = 0;

async function step(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok node ${name}`);
  } catch (e) {
    failed += 1;
    const at = (String(e.stack).match(/scenario\.js:\d+/) || [''])[0];
    console.log(`FAIL node ${name}: ${String(e.message || e).replace(/\s+/g, ' ')} ${at}`);
  }
}

async function restart(how) {
  console.log(`RESTART? ${how}`);
  const { value } = await lines.next();
  assert.strictEqual(value, 'DONE');
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`never happened: ${what}`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Calls a callback-style method; the results are an array when there are several.
function call(client, method, ...args) {
  return within(
    new Promise((resolve, reject) => {
      client[method](...args, (error, ...results) => {
        if (error) reject(error);
        else resolve(results.length > 1 ? results : results[0]);
      });
    }),
    method
  );
}

async function refused(code, promise) {
  try {
    await promise;
  } catch (e) {
    assert.strictEqual(e.code, code, `want code ${code}, got ${e}`);
    return;
  }
  assert.fail(`want code ${code}, got success`);
}

function open(timeout = 20000) {
  const client = zookeeper.createClient(connect, { sessionTimeout: timeout, spinDelay: 200, retries: 3 });
  const connected = new Promise((resolve) => client.once('connected', resolve));
  client.connect();
  return within(connected, 'connected').then(() => client);
}

async function close(client) {
  const gone = new Promise((resolve) => client.once('disconnected', resolve));
  client.close();
  await within(gone, 'closed');
}

async function eventually(holds, what) {
  const end = Date.now() + WAIT_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// A watcher that keeps what it saw.
class Seen {
  constructor() {
    this.events = [];
    this.waiting = [];
    this.watch = (event) => {
      const text = `${event.getName()} ${event.getPath()}`;
      if (this.waiting.length) this.waiting.shift()(text);
      else this.events.push(text);
    };
  }

  next() {
    if (this.events.length) return Promise.resolve(this.events.shift());
    return within(new Promise((resolve) => this.waiting.push(resolve)), 'an event');
  }
}

const stat = (s) => JSON.stringify(Object.keys(s).sort().map((k) => [k, Buffer.isBuffer(s[k]) ? s[k].toString('hex') : s[k]]));

async function main() {
  let zk;

  await step('connect', async () => {
    zk = await open();
    assert.strictEqual(zk.getState(), State.SYNC_CONNECTED);
    assert.strictEqual(zk.getSessionId().length, 8);
    assert.strictEqual(zk.getSessionPassword().length, 16);
    assert.strictEqual(zk.getSessionTimeout(), 20000);
    await call(zk, 'create', '/node', Buffer.from('root'));
  });

  await step('create-read-update-delete', async () => {
    assert.strictEqual(await call(zk, 'create', '/node/a', Buffer.from('one')), '/node/a');
    const [data, first] = await call(zk, 'getData', '/node/a');
    assert.strictEqual(data.toString(), 'one');
    assert.strictEqual(first.version, 0);
    assert.strictEqual(first.dataLength, 3);
    assert.deepStrictEqual(first.czxid, first.mzxid);
    const second = await call(zk, 'setData', '/node/a', Buffer.from('two!'), 0);
    assert.strictEqual(second.version, 1);
    assert.strictEqual(stat(await call(zk, 'exists', '/node/a')), stat(second));
    await call(zk, 'create', '/node/a/b');
    const [none] = await call(zk, 'getData', '/node/a/b');
    assert.ok(!none || none.length === 0);
    await call(zk, 'mkdirp', '/node/a/c/d/e');
    const [children, parent] = await call(zk, 'getChildren', '/node/a');
    assert.deepStrictEqual(children.sort(), ['b', 'c']);
    assert.strictEqual(parent.cversion, 2);
    assert.strictEqual(parent.numChildren, 2);
    for (const path of ['/c/d/e', '/c/d', '/c', '/b']) await call(zk, 'remove', `/node/a${path}`, -1);
    await call(zk, 'remove', '/node/a', 1);
    assert.ok(!(await call(zk, 'exists', '/node/a')));
    await call(zk, 'create', '/node/\u00fcn\u00ef \u2603', Buffer.from('x'));
    assert.ok((await call(zk, 'getChildren', '/node'))[0].includes('\u00fcn\u00ef \u2603'));
    const large = Buffer.alloc(1000000, 'large data ');
    await call(zk, 'create', '/node/large', large);
    assert.ok((await call(zk, 'getData', '/node/large'))[0].equals(large));
    await call(zk, 'remove', '/node/large', -1);
  });

  await step('create-modes', async () => {
    await call(zk, 'create', '/node/seq');
    assert.strictEqual(await call(zk, 'create', '/node/seq/n-', CreateMode.PERSISTENT_SEQUENTIAL), '/node/seq/n-0000000000');
    const eph = await call(zk, 'create', '/node/seq/n-', CreateMode.EPHEMERAL_SEQUENTIAL);
    assert.strictEqual(eph, '/node/seq/n-0000000001');
    assert.deepStrictEqual((await call(zk, 'exists', eph)).ephemeralOwner, zk.getSessionId());
  });

  await step('errors', async () => {
    await call(zk, 'mkdirp', '/node/e/c');
    await call(zk, 'create', '/node/eph', CreateMode.EPHEMERAL);
    await refused(Exception.NODE_EXISTS, call(zk, 'create', '/node/e'));
    await refused(Exception.NO_NODE, call(zk, 'create', '/node/none/x'));
    await refused(Exception.NO_NODE, call(zk, 'getData', '/node/none'));
    await refused(Exception.NO_NODE, call(zk, 'getChildren', '/node/none'));
    await refused(Exception.BAD_VERSION, call(zk, 'setData', '/node/e', Buffer.from('x'), 7));
    await refused(Exception.BAD_VERSION, call(zk, 'remove', '/node/e/c', 7));
    await refused(Exception.NOT_EMPTY, call(zk, 'remove', '/node/e', -1));
    await refused(Exception.NO_CHILDREN_FOR_EPHEMERALS, call(zk, 'create', '/node/eph/x'));
    await refused(Exception.INVALID_ACL, call(zk, 'create', '/node/x', [new ACL(Permission.ALL, new Id('nothing', 'x'))]));
    await call(zk, 'remove', '/node/eph', -1);
  });

  await step('one-shot-watches', async () => {
    const exists = new Seen();
    const data = new Seen();
    const child = new Seen();
    assert.ok(!(await call(zk, 'exists', '/node/w', exists.watch)));
    await call(zk, 'create', '/node/w');
    assert.strictEqual(await exists.next(), 'NODE_CREATED /node/w');
    await call(zk, 'getData', '/node/w', data.watch);
    await call(zk, 'getChildren', '/node/w', child.watch);
    await call(zk, 'setData', '/node/w', Buffer.from('1'));
    assert.strictEqual(await data.next(), 'NODE_DATA_CHANGED /node/w');
    await call(zk, 'setData', '/node/w', Buffer.from('2'));
    await call(zk, 'create', '/node/w/c');
    assert.strictEqual(await child.next(), 'NODE_CHILDREN_CHANGED /node/w');
    assert.deepStrictEqual(data.events, []);
    await call(zk, 'exists', '/node/w/c', exists.watch);
    await call(zk, 'remove', '/node/w/c');
    assert.strictEqual(await exists.next(), 'NODE_DELETED /node/w/c');
  });

  await step('acl-digest', async () => {
    const alice = await open();
    const bob = await open();
    alice.addAuthInfo('digest', Buffer.from('alice:secret'));
    bob.addAuthInfo('digest', Buffer.from('bob:other'));
    const digest = 'alice:' + crypto.createHash('sha1').update('alice:secret').digest('base64');
    await call(alice, 'create', '/node/alice', Buffer.from('hers'), ACL.CREATOR_ALL_ACL);
    const [acls, first] = await call(alice, 'getACL', '/node/alice');
    assert.strictEqual(acls.length, 1);
    assert.strictEqual(acls[0].id.scheme, 'digest');
    assert.strictEqual(acls[0].id.id, digest);
    assert.strictEqual(first.aversion, 0);
    await refused(Exception.NO_AUTH, call(bob, 'getData', '/node/alice'));
    await refused(Exception.NO_AUTH, call(bob, 'setData', '/node/alice', Buffer.from('x')));
    await refused(Exception.NO_AUTH, call(bob, 'create', '/node/alice/c'));
    await refused(Exception.NO_AUTH, call(bob, 'setACL', '/node/alice', ACL.OPEN_ACL_UNSAFE));
    const mixed = [new ACL(Permission.ALL, new Id('digest', digest)), new ACL(Permission.READ, Id.ANYONE_ID_UNSAFE)];
    assert.strictEqual((await call(alice, 'setACL', '/node/alice', mixed, 0)).aversion, 1);
    await refused(Exception.BAD_VERSION, call(alice, 'setACL', '/node/alice', mixed, 0));
    assert.strictEqual((await call(bob, 'getData', '/node/alice'))[0].toString(), 'hers');
    await close(alice);
    await close(bob);
  });

  await step('transaction', async () => {
    const results = await call(
      zk.transaction().create('/node/t', Buffer.from('t')).create('/node/t/s').setData('/node/t', Buffer.from('tt'), 0).check('/node/t', 1).remove('/node/t/s', 0),
      'commit'
    );
    assert.strictEqual(results.length, 5);
    assert.strictEqual(results[0].path, '/node/t');
    assert.strictEqual(results[2].stat.version, 1);
    const failing = zk.transaction().create('/node/t2').remove('/node/none', -1);
    await refused(Exception.NO_NODE, call(failing, 'commit'));
    assert.ok(!(await call(zk, 'exists', '/node/t2')));
  });

  await step('pipelined', async () => {
    await call(zk, 'create', '/node/many');
    const all = [];
    for (let i = 0; i < 300; i += 1) {
      all.push(call(zk, 'create', `/node/many/${i}`, Buffer.from(`v${i}`)));
      all.push(call(zk, 'getData', `/node/many/${i}`).then(([data]) => assert.strictEqual(data.toString(), `v${i}`)));
    }
    await Promise.all(all);
    assert.strictEqual((await call(zk, 'getChildren', '/node/many'))[0].length, 300);
  });

  await step('ephemerals', async () => {
    const seen = new Seen();
    const owner = await open();
    await call(owner, 'create', '/node/eph-1', CreateMode.EPHEMERAL);
    assert.deepStrictEqual((await call(zk, 'exists', '/node/eph-1', seen.watch)).ephemeralOwner, owner.getSessionId());
    await close(owner);
    assert.strictEqual(await seen.next(), 'NODE_DELETED /node/eph-1');
  });

  const acrossRestart = async (how) => {
    const base = `/node/restart-${how}`;
    await call(zk, 'create', base, Buffer.from('before'));
    const eph = await call(zk, 'create', `${base}/eph-`, CreateMode.EPHEMERAL_SEQUENTIAL);
    const session = zk.getSessionId().toString('hex');
    const before = stat(await call(zk, 'exists', base));
    const data = new Seen();
    const missing = new Seen();
    const child = new Seen();
    await call(zk, 'getData', base, data.watch);
    await call(zk, 'exists', `${base}/later`, missing.watch);
    await call(zk, 'getChildren', base, child.watch);
    await restart(how);
    try {
      await eventually(() => zk.getState() === State.SYNC_CONNECTED, 'connected again');
    } catch (e) {
      throw new Error(`${e.message}: still ${zk.getState().getName()}`);
    }
    let now;
    await eventually(async () => {
      try {
        now = await call(zk, 'exists', base);
        return true;
      } catch (e) {
        if (e.code === Exception.CONNECTION_LOSS) return false;
        throw e;
      }
    }, 'an answer');
    assert.strictEqual(stat(now), before);
    assert.strictEqual(zk.getSessionId().toString('hex'), session);
    assert.strictEqual((await call(zk, 'exists', eph)).ephemeralOwner.toString('hex'), session);
    assert.deepStrictEqual([...data.events, ...missing.events, ...child.events], []);
    await call(zk, 'setData', base, Buffer.from('after'), 0);
    assert.strictEqual(await data.next(), `NODE_DATA_CHANGED ${base}`);
    await call(zk, 'create', `${base}/later`);
    assert.strictEqual(await missing.next(), `NODE_CREATED ${base}/later`);
    assert.strictEqual(await child.next(), `NODE_CHILDREN_CHANGED ${base}`);
  };

  await step('restart-after-kill', () => acrossRestart('kill'));
  await step('restart-after-term', () => acrossRestart('term'));

  await step('close', async () => {
    await call(zk, 'create', '/node/last', CreateMode.EPHEMERAL);
    await close(zk);
    const other = await open();
    assert.ok(!(await call(other, 'exists', '/node/last')));
    await close(other);
  });

  console.log(`END ${passed} ${failed}`);
  process.exit(failed === 0 ? 0 : 1);
}

main().catch((e) => {
  console.log(`FAIL node scenario: ${e.message}`);
  process.exit(1);
});

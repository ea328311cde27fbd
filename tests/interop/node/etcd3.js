// The npm package etcd3, with the scenarios of tests/interop/scenarios.py that it can do.
'use strict';

const { Etcd3 } = require('etcd3');
const { orders, run } = require('./reporting.js');

const connect = () => new Etcd3({ hosts: `http://${orders.endpoint}` });
const client = connect();

async function stillHere() {
  await client.put('after').value('still here');
  return client.get('after').string();
}

async function refusal(promise) {
  try {
    await promise;
    return 'OK';
  } catch (error) {
    return error.message;
  }
}

async function unary() {
  await client.put('unary').value('unary value');
  const moved = await client.if('unary', 'Value', '==', 'unary value')
    .then(client.put('unary').value('second')).commit();
  return {
    value: await client.get('unary').string(),
    refused: await refusal(client.put('').value('no key')),
    moved: moved.succeeded,
  };
}

// A watcher sees a put and is cancelled; a lease is kept alive and revoked, its key goes with it.
async function bidi() {
  const watcher = await client.watch().key('bidi').create();
  const seen = new Promise((resolve) => watcher.once('put', (kv) => resolve(kv.value.toString())));
  await client.put('bidi').value('seen');
  const value = await seen;
  await watcher.cancel();
  const lease = client.lease(60);
  await lease.put('leased').value('here');
  await lease.keepaliveOnce();
  const before = await client.get('leased').string();
  await lease.revoke();
  return { value, before, after: await client.get('leased').string() };
}

async function large() {
  const value = Buffer.alloc(orders.readBackBytes, 'v');
  await client.put('large/1').value(value);
  const read = (await client.get('large/1').buffer()).length;
  const putAtLimit = await refusal(
    client.put('large').value(Buffer.alloc(orders.messageLimitBytes - 100)));
  // The package stops asking a host that answered so; another client is another breaker.
  const other = connect();
  const over = await refusal(other.put('large').value(Buffer.alloc(orders.messageLimitBytes)));
  other.close();
  return {
    read_back: read,
    put_at_limit: putAtLimit,
    over_limit: over.includes('RESOURCE_EXHAUSTED'),
    after: await stillHere(),
  };
}

async function sequential() {
  let answered = 0;
  for (let n = 0; n < orders.sequential; n++) {
    answered += Number((await client.get('unary').serializable(true).string()) !== null);
  }
  return { answered };
}

async function concurrent() {
  const watchers = await Promise.all(Array.from({ length: orders.concurrent },
    () => client.watch().key('concurrent').create()));
  const events = watchers.map(
    (watcher) => new Promise((resolve) => watcher.once('put', () => resolve(1))));
  await client.put('concurrent').value('seen');
  const seen = (await Promise.all(events)).length;
  await Promise.all(watchers.map((watcher) => watcher.cancel()));
  return { created: watchers.length, events: seen };
}

run({ unary, bidi, large, sequential, concurrent }).then(() => client.close());

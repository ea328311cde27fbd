// @grpc/grpc-js: one channel, the scenarios of tests/interop/scenarios.py.
// DQLITE_PROTO names the folder of the .proto files.
'use strict';

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { orders, run, nameOf } = require('./reporting.js');

const TIMEOUT_MS = 60_000;
const definition = loader.loadSync(['dqlite_py/pb/rpc.proto', 'dqlite_py/pb/health.proto'], {
  includeDirs: [process.env.DQLITE_PROTO],
  keepCase: true,
  longs: Number,
});
const { etcdserverpb, grpc: { health: { v1: health } } } = grpc.loadPackageDefinition(definition);
const credentials = grpc.credentials.createInsecure();
const kv = new etcdserverpb.KV(orders.endpoint, credentials, { 'grpc.max_receive_message_length': -1 });
const shared = { channelOverride: kv.getChannel() };
const watches = new etcdserverpb.Watch(orders.endpoint, credentials, shared);
const leases = new etcdserverpb.Lease(orders.endpoint, credentials, shared);
const checks = new health.Health(orders.endpoint, credentials, shared);

const soon = (ms = TIMEOUT_MS) => ({ deadline: Date.now() + ms });
const word = (text) => text.split(' ')[0];

function call(method, request) {
  return new Promise((resolve, reject) => {
    kv[method](request, soon(), (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

async function refusal(promise) {
  try {
    await promise;
    return 'OK';
  } catch (error) {
    return `${nameOf(grpc.status, error.code)} ${error.details}`;
  }
}

// A stream as a queue: next() is the next message, end the name of the final status.
class Stream {
  constructor(duplex) {
    this.duplex = duplex;
    this.iterator = duplex[Symbol.asyncIterator]();
    this.end = new Promise((resolve) => {
      duplex.on('status', (status) => resolve(nameOf(grpc.status, status.code)));
      duplex.on('error', () => {});
    });
  }

  async next() {
    const { value, done } = await this.iterator.next();
    if (done) throw new Error('the stream has ended');
    return value;
  }
}

function watch(key, ids = [0], ms = TIMEOUT_MS) {
  const stream = new Stream(watches.Watch(soon(ms)));
  for (const id of ids) {
    stream.duplex.write({ create_request: { key: Buffer.from(key), watch_id: id } });
  }
  return stream;
}

const put = (key, value) => call('Put', { key: Buffer.from(key), value: Buffer.from(value) });
const get = async (key) => (await call('Range', { key: Buffer.from(key) })).kvs[0].value;

async function stillHere() {
  await put('after', 'still here');
  return (await get('after')).toString();
}

async function unary() {
  await put('unary', 'unary value');
  const nonsense = () => new Promise((resolve, reject) => {
    kv.makeUnaryRequest('/etcdserverpb.KV/Nonsense', (b) => b, (b) => b, Buffer.alloc(0), soon(),
      (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  return {
    value: (await get('unary')).toString(),
    refused: await refusal(call('Put', { value: Buffer.from('no key') })),
    unknown_method: word(await refusal(nonsense())),
  };
}

async function serverStream() {
  const stream = new Stream(checks.Watch({}, soon()));
  const first = await stream.next();
  stream.duplex.cancel();
  const names = health.HealthCheckResponse.type.enumType[0].value;
  return {
    status: names.find((value) => value.number === first.status || value.name === first.status).name,
    end: await stream.end,
  };
}

async function bidi() {
  const stream = watch('bidi', [1, 2]);
  let created = 0;
  for (let n = 0; n < 2; n++) created += Number((await stream.next()).created);
  await put('bidi', 'seen');
  let events = 0;
  for (let n = 0; n < 2; n++) events += (await stream.next()).events.length;
  stream.duplex.write({ cancel_request: { watch_id: 1 } });
  const canceled = Number((await stream.next()).canceled);
  stream.duplex.cancel();
  const keeper = new Stream(leases.LeaseKeepAlive(soon()));
  for (let n = 0; n < 2; n++) keeper.duplex.write({ ID: 404 });
  keeper.duplex.end();
  const renewals = [];
  for await (const answer of keeper.duplex) renewals.push(answer.TTL ?? 0);
  return { created, events, canceled, renewals, end: await keeper.end };
}

async function cancel() {
  const stream = watch('cancel');
  await stream.next();
  stream.duplex.cancel();
  return { end: await stream.end, after: await stillHere() };
}

async function deadline() {
  const stream = watch('deadline', [0], 300);
  await stream.next();
  return { end: await stream.end, after: await stillHere() };
}

async function large() {
  const value = Buffer.alloc(orders.readBackBytes, 'v');
  for (const key of ['large/1', 'large/2']) await put(key, value);
  const both = await call('Range', { key: Buffer.from('large/'), range_end: Buffer.from('large0') });
  // Tags and lengths: 2 + 5 bytes of key and 4 before the value; 4 before a long key.
  const limit = orders.messageLimitBytes;
  const sized = (size) => ({ key: Buffer.from('large'), value: Buffer.alloc(size - 7 - 4) });
  const atLimit = await call('Range', { key: Buffer.alloc(limit - 4, 'x') });
  return {
    read_back: (await get('large/1')).length,
    both: both.kvs.reduce((sum, found) => sum + found.value.length, 0),
    at_limit: atLimit.count ?? 0,
    put_at_limit: await refusal(call('Put', sized(limit))),
    over_limit: word(await refusal(call('Put', sized(limit + 1)))),
    after: await stillHere(),
  };
}

async function sequential() {
  let answered = 0;
  for (let n = 0; n < orders.sequential; n++) {
    const found = await call('Range', { key: Buffer.from('unary'), serializable: true });
    answered += Number(found.header.revision > 0);
  }
  return { answered };
}

async function concurrent() {
  const streams = Array.from({ length: orders.concurrent }, () => watch('concurrent'));
  const first = await Promise.all(streams.map((stream) => stream.next()));
  await put('concurrent', 'seen');
  const second = await Promise.all(streams.map((stream) => stream.next()));
  for (const stream of streams) stream.duplex.cancel();
  return {
    created: first.filter((answer) => answer.created).length,
    events: second.reduce((sum, answer) => sum + answer.events.length, 0),
  };
}

run({ unary, server_stream: serverStream, bidi, cancel, deadline, large, sequential, concurrent })
  .then(() => kv.close());

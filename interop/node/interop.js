'use strict';

// Scenarios on ali-ons, the Node client of the remoting protocol. Arguments: name server address, prefix of topics and groups, count of messages of
// the counting scenario. One line a scenario: "PASS name", "FAIL name reason" or "SKIP name reason".

const crypto = require('crypto');
const { Consumer, Message, Producer } = require('ali-ons');

const LIMIT = 4 * 1024 * 1024;
const WAVE = 200;
const MESSAGE_ILLEGAL = 13;

const [nameServer, prefix, countText] = process.argv.slice(2);
const count = Number(countText);

let failed = false;
let instances = 0;

class Skip extends Error {}

async function run(name, scenario) {
  const begin = Date.now();
  let line;
  try {
    await scenario();
    line = `PASS ${name}`;
  } catch (error) {
    if (error instanceof Skip) {
      line = `SKIP ${name} ${error.message}`;
    } else {
      failed = true;
      console.error(error);
      line = `FAIL ${name} ${String(error).replace(/\s+/g, ' ')}`;
    }
  }
  console.log(line);
  console.error(`${name} took ${Date.now() - begin} ms`);
}

const skip = (name, reason) => run(name, async () => { throw new Skip(reason); });

function check(condition, otherwise) {
  if (!condition) throw new Error(otherwise);
}

const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

// Waits until the condition holds, at most so long.
async function wait(seconds, what, condition) {
  const deadline = Date.now() + seconds * 1000;
  while (!condition()) {
    check(Date.now() < deadline, `${what} did not happen within ${seconds} s`);
    await sleep(20);
  }
}

const topic = name => `${prefix}_${name}`;

// What the library logs through console.warn and console.error belongs to stderr; it must not fail a scenario (a first query of an offset says "not found").
const logger = { info() {}, debug() {}, warn(...args) { console.error(...args); }, error(...args) { console.error(String(args[0]).slice(0, 300)); } };

function options(extra) {
  return {
    nameSrv: nameServer,
    // Only the lookup of a name server by URL needs it.
    httpclient: { request() { throw new Error('no HTTP'); } },
    accessKeyId: 'a',
    accessKeySecret: 'b',
    namespace: '',
    instanceName: `i${process.pid}-${++instances}`,
    clientIP: '127.0.0.1',
    logger,
    rebalanceInterval: 2000,
    ...extra,
  };
}

async function producer(name) {
  const made = new Producer(options({ producerGroup: `g_${prefix}_p_${name}`, compressMsgBodyOverHowmuch: Infinity, maxMessageSize: 4 * LIMIT, sendMsgTimeout: 10000 }));
  made.on('error', error => console.error(String(error)));
  await made.ready();
  return made;
}

async function consumer(name, extra = {}) {
  const made = new Consumer(options({
    consumerGroup: `g_${prefix}_${name}`,
    consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET',
    // Above this many waiting messages the library sleeps for 5 s.
    pullThresholdForQueue: 1e6,
    ...extra,
  }));
  made.on('error', error => console.error(String(error)));
  await made.ready();
  return made;
}

function message(of, body, tag, key, properties = {}) {
  const made = new Message(of, tag, body);
  if (key) made.keys = [ key ];
  Object.assign(made.properties, properties);
  return made;
}

// Every way to send; one consumer collects the whole topic, by key.
async function sending() {
  const of = topic('send');
  const received = new Map();
  const by = await producer('send');
  const collector = await consumer('collector');
  collector.subscribe(of, '*', async got => {
    if (!received.has(got.keys)) received.set(got.keys, []);
    received.get(got.keys).push(got);
  });
  const one = async key => {
    await wait(30, `message ${key}`, () => received.has(key));
    check(received.get(key).length === 1, `${key} came ${received.get(key).length} times`);
    return received.get(key)[0];
  };
  const numbered = (kind, i) => message(of, `${kind} body ${i}`, kind, `${kind}-${i}`, { number: String(i) });
  const expect = async (kind, many) => {
    for (let i = 0; i < many; i++) {
      const got = await one(`${kind}-${i}`);
      check(got.body.toString() === `${kind} body ${i}` && got.tags === kind && got.properties.number === String(i), `another message came back: ${got.body} ${got.tags}`);
    }
  };

  await run('send-sync', async () => {
    for (let i = 0; i < 20; i++) {
      const result = await by.send(numbered('sync', i));
      check(result.sendStatus === 'SEND_OK' && result.queueOffset >= 0, JSON.stringify(result));
    }
    await expect('sync', 20);
  });
  await run('send-async', async () => {
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) => by.send(numbered('async', i))));
    check(results.every(result => result.sendStatus === 'SEND_OK'), JSON.stringify(results));
    await expect('async', 20);
  });
  await skip('send-oneway', 'the client has no one-way send');
  await skip('send-batch', 'the client has no batches');
  await run('chinese', async () => {
    await by.send(message(of, '消息正文：你好，世界 🚀', '标签', '订单-中文键', { 地区: '北京市海淀区' }));
    const got = await one('订单-中文键');
    check(got.body.toString() === '消息正文：你好，世界 🚀' && got.tags === '标签' && got.properties['地区'] === '北京市海淀区', `another message came back: ${got.body} ${got.tags}`);
  });
  await run('filter-tags', async () => {
    const tagged = topic('tags');
    const want = [];
    for (let i = 0; i < 40; i++) {
      await by.send(message(tagged, 'tagged', [ 'red', 'green', 'blue', 'violet' ][i % 4], `t-${i}`));
      if (i % 2 === 1) want.push(`t-${i}`);
    }
    const got = [];
    const filtered = await consumer('tags');
    filtered.subscribe(tagged, 'green || violet', async each => { got.push(each.keys); });
    await wait(30, 'all of the subscribed tags', () => got.length >= want.length);
    check(got.sort().join() === want.sort().join(), `received ${got}`);
    await filtered.close();
  });
  await skip('query-key', 'the client has no queries');
  await skip('view-id', 'the client has no queries');
  await skip('auto-create', 'the client needs a topic that exists');
  await run('body-0', async () => {
    try {
      await by.send(message(of, Buffer.alloc(0), 'size', 'body-0'));
    } catch (refused) {
      // This client sends what others refuse themselves. The Java broker answers it with an error: what counts is an answer.
      check(refused.code > 0 || /still failed/.test(refused.message), `refused otherwise: ${refused}`);
      return;
    }
    await one('body-0');
  });
  for (const [ name, size ] of [[ 'body-1k', 1024 ], [ 'body-4m-1', LIMIT - 1 ]]) {
    await run(name, async () => {
      const body = crypto.randomBytes(size);
      await by.send(message(of, body, 'size', name));
      check(Buffer.compare((await one(name)).body, body) === 0, 'another body came back');
    });
  }
  await run('body-over-4m', async () => {
    let code;
    try {
      await by.send(message(of, crypto.randomBytes(LIMIT + 1), 'size', 'body-over-4m'));
    } catch (refused) {
      code = refused.code;
    }
    check(code === MESSAGE_ILLEGAL, `code ${code}`);
  });
  await collector.close();
}

// What one instance has received: message numbers and queues.
class Seen {
  constructor() {
    this.numbers = new Set();
    this.queues = new Set();
  }
  add(got) {
    this.numbers.add(Number(got.body));
    this.queues.add(got.queueId);
  }
}

const range = from => Array.from({ length: WAVE }, (_, i) => from + i);

async function wave(by, of, from) {
  for (const number of range(from)) await by.send(message(of, String(number), 'n'));
}

async function subscribed(name, of, seen, extra) {
  const made = await consumer(name, extra);
  made.subscribe(of, '*', async got => seen.add(got));
  return made;
}

// One instance takes a first wave, two share a second, the remaining one takes a third.
async function rebalance(name) {
  const of = topic(name);
  const by = await producer(name);
  const first = new Seen();
  const second = new Seen();
  const both = from => range(from).every(number => first.numbers.has(number) || second.numbers.has(number));
  const one = await subscribed(name, of, first);
  await wave(by, of, 0);
  await wait(30, 'the first wave at one instance', () => range(0).every(number => first.numbers.has(number)));
  const two = await subscribed(name, of, second);
  // The queues change hands some time after the second instance's first heartbeat: send until both receive.
  const deadline = Date.now() + 60000;
  let from = 0;
  for (;;) {
    from += WAVE;
    const here = from;
    await wave(by, of, here);
    await wait(60, 'a wave at two instances', () => both(here));
    if (range(here).some(number => first.numbers.has(number)) && range(here).some(number => second.numbers.has(number))) break;
    check(Date.now() < deadline, 'the queues were never shared');
    await sleep(200);
  }
  await one.close();
  from += WAVE;
  await wave(by, of, from);
  await wait(60, 'the last wave at the remaining instance', () => both(from) && second.queues.size === 4);
  await two.close();
}

async function broadcast() {
  const of = topic('broadcast');
  const by = await producer('broadcast');
  await wave(by, of, 0);
  const all = [ new Seen(), new Seen() ];
  const consumers = [];
  for (const seen of all) consumers.push(await subscribed('broadcast', of, seen, { isBroadcast: true }));
  await wave(by, of, WAVE);
  for (const seen of all) {
    await wait(60, 'every message at every instance', () => range(0).concat(range(WAVE)).every(number => seen.numbers.has(number)));
  }
  for (const each of consumers) await each.close();
}

// A message with a level comes after the second that the broker's first level lasts.
async function delayed() {
  const of = topic('delayed');
  const by = await producer('delayed');
  for (let i = 0; i < 20; i++) {
    const made = message(of, `delayed ${i}`, 'd');
    made.delayTimeLevel = 1;
    await by.send(made);
  }
  const came = new Set();
  const early = [];
  const late = await consumer('delayed');
  late.subscribe(of, '*', async got => {
    const waited = Number(got.storeTimestamp) - Number(got.bornTimestamp);
    if (!(waited >= 1000)) early.push(`${got.body} after ${waited} ms`);
    came.add(got.body.toString());
  });
  await wait(60, 'every delayed message', () => came.size === 20);
  check(early.length === 0, `early: ${early}`);
  await late.close();
}

// A message that fails comes again, counted.
async function retried() {
  const of = topic('retried');
  const by = await producer('retried');
  await by.send(message(of, 'fails', 'r'));
  const came = [];
  const failing = await consumer('retried');
  failing.subscribe(of, '*', async got => {
    came.push(`${got.body} ${got.reconsumeTimes}`);
    if (got.reconsumeTimes < 2) throw new Error('not yet');
  });
  await wait(100, 'the second retry', () => came.length >= 3);
  check(came.join() === 'fails 0,fails 1,fails 2', `came ${came}`);
  await failing.close();
}

// A consumer that names an expression gets what it takes and nothing else.
async function selected() {
  const of = topic('selected');
  const by = await producer('selected');
  const want = [];
  for (let price = 0; price < 120; price++) {
    const color = price % 2 === 0 ? 'red' : 'blue';
    await by.send(message(of, String(price), 's', undefined, { price: String(price), color }));
    if (price >= 10 && price <= 80 && color === 'red') want.push(price);
  }
  const came = [];
  const choosy = await consumer('selected');
  choosy.subscribe(of, { expressionType: 'SQL92', subString: 'price BETWEEN 10 AND 80 AND color = \'red\'' }, async got => { came.push(Number(got.body)); });
  await wait(60, 'every selected message', () => came.length >= want.length);
  check(came.sort((one, two) => one - two).join() === want.join(), `came ${came}`);
  await choosy.close();
}

// Many messages: in order per queue and sender, none lost, none twice. Without batches; each sender waits for its answer.
async function counting() {
  const of = topic('count');
  const senders = 64;
  const seen = new Set();
  const lanes = new Map();
  const offsets = new Map();
  let received = 0;
  let problem;
  const counted = await consumer('count');
  counted.subscribe(of, '*', async got => {
    const [ sender, number ] = got.body.toString().split('-').map(Number);
    const queue = got.queueId;
    const lane = `${queue}/${sender}`;
    const offset = Number(got.queueOffset);
    if (offsets.has(queue) && offsets.get(queue) + 1 !== offset) problem = `queue ${queue}: offset ${offset} after ${offsets.get(queue)}`;
    if (lanes.has(lane) && lanes.get(lane) >= number) problem = `queue ${queue}: number ${number} after ${lanes.get(lane)}`;
    if (seen.has(number)) problem = `number ${number} twice`;
    offsets.set(queue, offset);
    lanes.set(lane, number);
    seen.add(number);
    received++;
  });
  const by = await producer('count');
  await Promise.all(Array.from({ length: senders }, async (_, sender) => {
    for (let number = sender; number < count; number += senders) await by.send(message(of, `${sender}-${number}`, 'count'));
  }));
  await wait(120, `${count} messages (${received} at the last send)`, () => received >= count || problem);
  check(!problem && received === count && seen.size === count, `${problem}; received ${received}, distinct ${seen.size}`);
  await counted.close();
}

async function main() {
  await Promise.all([
    sending(),
    run('push-concurrent', () => rebalance('concurrent')),
    run('broadcast', broadcast),
    run('delayed', delayed),
    run('retried', retried),
    run('selected', selected),
    skip('push-orderly', 'the client has no orderly consumer'),
    skip('pull', 'the client has no pull consumer'),
    skip('lite-pull', 'the client has no lite pull consumer'),
  ]);
  await run('count', counting);
  // The library keeps timers that nothing stops.
  process.exit(failed ? 1 : 0);
}

main();

// `window`: a page with SkyWalking's browser client, in a DOM without a browser. The page comes from a web server that passes the
// client's reports on to a relay's HTTP port and everything else to the program at NEXT, as one in front of a shop would.
// Prints the ids of the traces that were reported, one in a line, and ends.
const fs = require('fs');
const http = require('http');
const { JSDOM } = require('jsdom');

const report = /^\/(v3|browser)\//;
const told = [];
const server = http.createServer((asked, answer) => {
  const to = new URL(asked.url, report.test(asked.url) ? process.env.COLLECTOR : process.env.NEXT);
  const onward = http.request(to, { method: asked.method, headers: { ...asked.headers, host: to.host } }, (said) => {
    told.push(`${asked.url} ${said.statusCode}`);
    answer.writeHead(said.statusCode, said.headers);
    said.pipe(answer);
  });
  onward.on('error', (error) => answer.destroy(error));
  asked.on('data', (bytes) => {
    for (const [, id] of String(bytes).matchAll(/"traceId":"([^"]+)"/g)) if (asked.url === '/v3/segments') console.log(id);
  });
  asked.pipe(onward);
});

server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const { window } = new JSDOM('', { url: `http://127.0.0.1:${port}/shop`, runScripts: 'outside-only', pretendToBeVisual: true });
  // What a browser measures and a DOM without one does not.
  const now = Date.now();
  const moments = ['navigationStart', 'fetchStart', 'domInteractive', 'domContentLoadedEventEnd', 'loadEventStart', 'loadEventEnd'];
  window.performance.timing = Object.fromEntries(moments.map((name, step) => [name, now - 100 + 10 * step]));
  window.performance.getEntriesByType = () => [];
  window.performance.getEntries = () => [];
  window.PerformanceObserver = class {
    static supportedEntryTypes = [];
    observe() {}
    disconnect() {}
  };
  Object.assign(window, { fetch: (what, how) => fetch(new URL(what.url ?? what, window.location.href), how), Request, Response, Headers });
  window.eval(fs.readFileSync(require.resolve('skywalking-client-js/lib/index.js'), 'utf8'));
  const page = { service: 'window', serviceVersion: 'window-1', pagePath: '/shop', collector: window.location.origin };
  window.ClientMonitor.register({ ...page, traceTimeInterval: 300 });
  const call = new window.XMLHttpRequest();
  call.open('GET', '/stock/leaf');
  call.send();
  // A page does not end; this one does when it has said what it had to.
  const wanted = ['/v3/segments 200', '/browser/perfData 200'];
  const began = Date.now();
  setInterval(() => {
    if (wanted.every((one) => told.includes(one))) process.exit(0);
    if (Date.now() - began > 10000) {
      console.error(`was told only ${told.join(', ')}`);
      process.exit(1);
    }
  }, 50);
});

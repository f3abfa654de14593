// `node -r ./answered.js` writes to the file ANSWERED which segments the agent was answered for; what it does stays as it is.
const fs = require('fs');
const { TraceSegmentReportServiceClient } = require('skywalking-backend-js/lib/proto/language-agent/Tracing_grpc_pb');

const client = TraceSegmentReportServiceClient.prototype;
const collect = client.collect;
client.collect = function (metadata, options, done) {
  const sent = [];
  const stream = collect.call(this, metadata, options, (error, answer) => {
    if (!error) fs.appendFileSync(process.env.ANSWERED, sent.join(''));
    done(error, answer);
  });
  const write = stream.write.bind(stream);
  stream.write = (segment) => {
    sent.push(`${segment.getTraceid()} ${segment.getTracesegmentid()}\n`);
    return write(segment);
  };
  return stream;
};

// `basket`: an Express program under the Node agent. It passes a trace on from Python to Python.
// All settings of the agent come from SW_* variables; it has to start before what it instruments is loaded.
require('skywalking-backend-js').default.start({});

const axios = require('axios');
const app = require('express')();

app.get('/basket/hello', async (_, answer) => {
  answer.json({ basket: 'hello', next: (await axios.get(process.env.NEXT)).data });
});
app.listen(Number(process.env.PORT), '127.0.0.1');
